package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"noyau.dev/pvm"
	"noyau.dev/test/internal/cases"
)

const (
	placeSize = 8192 - 128 // two pages, with what the library OS has there
	secret    = "what only two have"
)

// places: the first and a late child have memory that an early child was never given. With
// "claim" the early one says, when the family is saved, that it has that in the place of a
// piece of its own; with "again" it does when they are restored, for the next time. With "stay"
// nobody goes on then. Whoever finds there what is not its own says "stolen", and the first
// says "changed" if somebody else has written to it.
func places(args []string) {
	common := must(pvm.Share(1 << 12))
	await := func(at int) {
		for common.Uint32(at).Load() == 0 {
			cases.Must(common.Wait(common.Uint32(at), 0))
		}
	}
	say := func(at int) {
		common.Uint32(at).Store(1)
		cases.Must(common.Wake())
	}
	const made, shared, claimed, saved, over, again = 0, 4, 8, 12, 16, 20
	how := append(args, "")[0]
	early := fork(func() {
		mine := must(pvm.Share(placeSize))
		say(made)
		await(shared)
		claim := func() { *placeOf(common, mine) += placeSize + 128 } // the next that was made
		if how == "claim" {
			claim()
		}
		say(claimed)
		await(saved)
		if how == "again" {
			claim()
			say(again)
			time.Sleep(time.Hour)
		}
		if string(mine.Bytes()[:len(secret)]) == secret {
			fmt.Println("stolen")
		}
		copy(mine.Bytes(), "written by another")
		os.Exit(0)
	})
	await(made)
	theirs := must(pvm.Share(placeSize))
	copy(theirs.Bytes(), secret)
	late := fork(func() {
		await(over)
		if string(theirs.Bytes()[:len(secret)]) != secret {
			os.Exit(1)
		}
	})
	say(shared)
	await(claimed)
	e := end()
	fmt.Println("ready")
	<-e
	if how == "stay" {
		fmt.Println("restored")
		time.Sleep(time.Hour)
	}
	wait(fork(func() { theirs.Bytes()[placeSize-1]++ }), 0) // what was shared is, with those that are forked now
	if theirs.Bytes()[placeSize-1] != 1 {
		cases.Die("a fork has memory of its own")
	}
	say(saved)
	if how == "again" {
		await(again)
		fmt.Println("ready")
		time.Sleep(time.Hour)
	}
	st := must(pvm.Wait(early))
	if string(theirs.Bytes()[:len(secret)]) != secret {
		fmt.Println("changed")
	}
	say(over)
	wait(late, 0)
	fmt.Println("early", st.Exited() && st.ExitStatus() == 0)
	fmt.Println("done")
}

// pieces: two members have as many pieces of memory as it is told, each with a number in it,
// which both change before and after.
func pieces(args []string) {
	list := make([]*pvm.Memory, must(strconv.Atoi(args[0])))
	for i := range list {
		list[i] = must(pvm.Share(1))
	}
	turn := must(pvm.Share(8))
	add := func(want int) {
		for i, m := range list {
			if got := m.Bytes()[0]; got != byte(i+want) {
				cases.Die("piece", i, "has", got, "want", byte(i+want))
			}
			m.Bytes()[0]++
		}
	}
	pass := func(n uint32) {
		turn.Uint32(0).Store(n)
		cases.Must(turn.Wake())
	}
	await := func(n uint32) {
		for v := turn.Uint32(0).Load(); v != n; v = turn.Uint32(0).Load() {
			cases.Must(turn.Wait(turn.Uint32(0), v))
		}
	}
	for i, m := range list {
		m.Bytes()[0] = byte(i)
	}
	child := fork(func() {
		add(0)
		pass(1)
		await(2)
		add(2)
	})
	await(1)
	e := end()
	fmt.Println("ready")
	<-e
	add(1)
	pass(2)
	wait(child, 0)
	add(3)
	fmt.Println("done")
}

// shortlived makes more pairs than a member may have at a time, and closes them; so does a fork.
// It may have two members: with a child, no program can be started for which descriptors were
// prepared.
func shortlived(args []string) {
	n := must(strconv.Atoi(args[0]))
	open := func() {
		for range n {
			a, b, err := pvm.Pair()
			if err != nil {
				cases.Die(err)
			}
			a.Close()
			b.Close()
		}
	}
	open()
	wait(fork(open), 0)
	child := fork(func() { time.Sleep(time.Hour) })
	var files []*os.File
	for range 16 {
		r, w := must2(os.Pipe())
		defer r.Close()
		files = append(files, w)
	}
	for range n/len(files) + 1 {
		cmd := exec.Command(must(os.Executable()), "echo")
		cmd.ExtraFiles = files
		if err := cmd.Start(); !errors.Is(err, syscall.EAGAIN) {
			cases.Die("a third member:", err)
		}
	}
	cases.Must(pvm.Signal(child, syscall.SIGKILL))
	fmt.Println("done")
}
