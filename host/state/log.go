package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
	"unicode/utf8"
)

// A Record is a piece of a pVM's output: whole lines, or a part of one that had
// no newline when it was written. It is a line of JSON in the log, with the
// fields that Docker's json-file log has, so that tools for those read it.
type Record struct {
	Log    string    `json:"log,omitempty"`
	Log64  []byte    `json:"log64,omitempty"` // instead of Log: not UTF-8
	Stream string    `json:"stream"`          // "stdout" or "stderr"
	Time   time.Time `json:"time"`
}

// Data is what the pVM wrote.
func (r *Record) Data() []byte {
	if r.Log64 != nil {
		return r.Log64
	}
	return []byte(r.Log)
}

// LogLimits bound a log: at most Files files of about Size bytes each.
type LogLimits struct {
	Size  int64
	Files int
}

// DefaultLogLimits keep the newest 20 to 30 MB.
var DefaultLogLimits = LogLimits{Size: 10 << 20, Files: 3}

// maxRecord bounds the data of one record.
const maxRecord = 16 << 10

// A LogWriter appends to an entry's log. Its streams are safe for concurrent use.
type LogWriter struct {
	mu     sync.Mutex
	path   string
	limits LogLimits
	f      *os.File
	size   int64
}

// OpenLog opens the entry's log for appending.
func (e *Entry) OpenLog(l LogLimits) (*LogWriter, error) {
	w := &LogWriter{path: e.Path("log"), limits: l}
	return w, w.open()
}

func (w *LogWriter) open() error {
	f, err := os.OpenFile(w.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	w.f, w.size = f, st.Size()
	return nil
}

// Stream returns a writer for "stdout" or "stderr".
func (w *LogWriter) Stream(name string) io.Writer { return &logStream{w, name} }

type logStream struct {
	w    *LogWriter
	name string
}

func (s *logStream) Write(p []byte) (int, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	now := time.Now().UTC()
	for n := 0; n < len(p); {
		m := piece(p[n:])
		if err := s.w.record(Record{Stream: s.name, Time: now}, p[n:n+m]); err != nil {
			return n, err
		}
		n += m
	}
	return len(p), nil
}

// piece returns how much of p goes in one record: a line, or the most allowed.
func piece(p []byte) int {
	if i := bytes.IndexByte(p[:min(len(p), maxRecord)], '\n'); i >= 0 {
		return i + 1
	}
	n := min(len(p), maxRecord)
	if n == maxRecord { // do not cut a character in two
		for i := 0; i < utf8.UTFMax && n > 1 && n < len(p) && !utf8.RuneStart(p[n]); i++ {
			n--
		}
	}
	return n
}

func (w *LogWriter) record(r Record, data []byte) error {
	if w.f == nil {
		return os.ErrClosed
	}
	if utf8.Valid(data) {
		r.Log = string(data)
	} else {
		r.Log64 = data
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if w.size > 0 && w.size+int64(len(b)) > w.limits.Size {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	n, err := w.f.Write(b) // one write: a crash cuts at most the last record
	w.size += int64(n)
	return err
}

// rotate makes log.1 of log, log.2 of log.1 and so on.
func (w *LogWriter) rotate() error {
	w.f.Close()
	w.f = nil
	for i := w.limits.Files - 1; i > 1; i-- {
		os.Rename(numbered(w.path, i-1), numbered(w.path, i))
	}
	if w.limits.Files > 1 {
		if err := os.Rename(w.path, numbered(w.path, 1)); err != nil {
			return err
		}
	} else if err := os.Remove(w.path); err != nil {
		return err
	}
	return w.open()
}

// Close closes the log; later writes fail.
func (w *LogWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	w.f = nil
	return err
}

// numbered is the path of the i-th oldest log file; 0 is the current one.
func numbered(path string, i int) string {
	if i == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, i)
}

// logFiles returns the existing log files, oldest first.
func logFiles(path string) []string {
	var files []string
	for i := 0; ; i++ {
		p := numbered(path, i)
		if _, err := os.Lstat(p); err != nil {
			if i > 0 { // the current one may be missing for a moment
				break
			}
			continue
		}
		files = append([]string{filepath.Clean(p)}, files...)
	}
	return files
}
