package state

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
)

// A LogReader reads an entry's log from its oldest record on, across rotation.
type LogReader struct {
	path string
	f    *os.File
	br   *bufio.Reader
	part []byte // a record that is not complete yet
}

// maxLine bounds a line of the log file that is read: a record of maxRecord
// bytes, each of which JSON may write as six.
const maxLine = 8 * maxRecord

// ReadLog opens the entry's log for reading. Close it after use.
func (e *Entry) ReadLog() *LogReader { return &LogReader{path: e.Path("log")} }

// Next returns the next record. At the end of what was written so far the error
// is io.EOF, and a later call may have more. Damaged records are skipped.
func (r *LogReader) Next() (Record, error) {
	for {
		if r.f == nil {
			if err := r.openNext(nil); err != nil {
				return Record{}, err
			}
		}
		line, err := r.br.ReadSlice('\n')
		if len(r.part)+len(line) > maxLine {
			r.part = r.part[:0] // no record of ours
			line = nil
		}
		r.part = append(r.part, line...)
		switch {
		case err == nil:
			var rec Record
			bad := json.Unmarshal(bytes.TrimSpace(r.part), &rec)
			r.part = r.part[:0]
			if bad == nil {
				return rec, nil
			}
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			if err := r.advance(); err != nil {
				return Record{}, err
			}
		default:
			return Record{}, err
		}
	}
}

// advance is called at the end of a file: it goes on to the next one if the
// file was rotated away, else the error is io.EOF.
func (r *LogReader) advance() error {
	cur, err := r.f.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Stat(r.path); err == nil && os.SameFile(now, cur) {
		return io.EOF
	}
	// Rotated: nobody writes to our file any more, but something may have
	// come between our last read and the rotation.
	if pos, err := r.f.Seek(0, io.SeekCurrent); err == nil && pos < cur.Size() {
		return nil
	}
	old := r.f
	err = r.openNext(cur)
	if err == nil {
		old.Close()
		r.part = r.part[:0]
	}
	return err
}

// openNext opens the file after the one called after, or the oldest.
func (r *LogReader) openNext(after os.FileInfo) error {
	files := logFiles(r.path)
	next := 0
	if after != nil {
		for i, p := range files {
			if st, err := os.Stat(p); err == nil && os.SameFile(st, after) {
				next = i + 1
			}
		}
	}
	if next >= len(files) {
		return io.EOF
	}
	f, err := os.Open(files[next])
	if errors.Is(err, fs.ErrNotExist) {
		return io.EOF // moved on just now; the next call finds its place
	}
	if err != nil {
		return err
	}
	if after != nil && next > 0 {
		// If the files moved between the look and the opening, this one may not
		// be the next: look again.
		if st, err := os.Stat(files[next-1]); err != nil || !os.SameFile(st, after) {
			f.Close()
			return r.openNext(after)
		}
	}
	r.f, r.br = f, bufio.NewReaderSize(f, 64<<10)
	return nil
}

// Close closes the reader.
func (r *LogReader) Close() error {
	if r.f == nil {
		return nil
	}
	return r.f.Close()
}
