package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"noyau.dev/pvm"
)

// family does the job in forks and adds up into total. It is not ok, and has done
// nothing, in an ordinary process.
func family(text []byte, pieces []piece, workers int, total counts) (ok bool, err error) {
	results, err := pvm.NewQueue()
	if errors.Is(err, pvm.ErrNotPVM) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	m, err := pvm.Share(8)
	if err != nil {
		return false, err
	}
	var children []int
	for range workers {
		pid, err := pvm.Fork()
		if err != nil {
			return false, err
		}
		if pid == 0 {
			results.CloseReceive()
			if err := mapPieces(text, pieces, m.Uint64(0)).encode(pvm.MaxMessage, results.Send); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
		children = append(children, pid)
	}
	results.CloseSend() // so that the end of the last worker is the end of the queue
	b := make([]byte, pvm.MaxMessage)
	for {
		n, err := results.Receive(b)
		if err == io.EOF {
			break
		}
		if err == nil {
			err = total.decode(b[:n])
		}
		if err != nil {
			return false, err
		}
	}
	for _, pid := range children {
		if s, err := pvm.Wait(pid); err != nil || s != 0 {
			return false, fmt.Errorf("worker %d has failed: exit %d, signal %d, %w", pid, s.ExitStatus(), s.Signal(), err)
		}
	}
	return true, nil
}
