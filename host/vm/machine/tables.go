package machine

import (
	"encoding/binary"
	"errors"
)

// tables builds the guest's page tables in the system area. Entries are only
// ever added: a sealed guest has no downgrade of a live page, so no stale
// translation can exist.
type tables struct {
	mem  []byte // the system area; its guest-physical address is gpaSystem
	next int    // first free page of mem
	root uint64 // guest-physical address of the PML4
}

var errTables = errors.New("vm: the page tables are full")

func (t *tables) init(mem []byte) {
	t.mem, t.next = mem, pageTable
	t.root, _ = t.alloc()
}

func (t *tables) alloc() (gpa uint64, err error) {
	if (t.next+1)*page > len(t.mem) {
		return 0, errTables
	}
	gpa = gpaSystem + uint64(t.next)*page
	t.next++
	t.mem[gpa-gpaSystem] = 0 // a page that is read first costs a second fault when it is written
	return gpa, nil
}

func (t *tables) entry(table uint64, i uint64) []byte {
	return t.mem[table-gpaSystem+8*i:][:8]
}

// walk returns the entry for va in the table of the given level (1: 4 KiB
// pages, 2: 2 MiB pages), making the tables above it.
func (t *tables) walk(va uint64, level int) ([]byte, error) {
	table := t.root
	for l := 4; ; l-- {
		e := t.entry(table, va>>(12+9*(l-1))&511)
		if l == level {
			return e, nil
		}
		v := binary.LittleEndian.Uint64(e)
		if v&ptePresent == 0 {
			gpa, err := t.alloc()
			if err != nil {
				return nil, err
			}
			v = gpa | ptePresent | pteWrite | pteA
			if va < superBase {
				v |= pteUser
			}
			binary.LittleEndian.PutUint64(e, v)
		} else if v&pteLarge != 0 {
			return nil, errors.New("vm: a page inside a large page")
		}
		table = v & pteAddr
	}
}

// mapPages maps n bytes of 4 KiB pages.
func (t *tables) mapPages(va, gpa, n uint64, flags uint64) error {
	if va < superBase {
		flags |= pteUser
	}
	for o := uint64(0); o < n; o += page {
		e, err := t.walk(va+o, 1)
		if err != nil {
			return err
		}
		if binary.LittleEndian.Uint64(e) != 0 {
			return errors.New("vm: a page is mapped twice")
		}
		binary.LittleEndian.PutUint64(e, gpa+o|flags)
	}
	return nil
}

// mapLarge maps one 2 MiB page.
func (t *tables) mapLarge(va, gpa, flags uint64) error {
	e, err := t.walk(va, 2)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(e, gpa|flags|pteLarge|pteUser)
	return nil
}

// isLarge reports whether va lies in a 2 MiB page.
func (t *tables) isLarge(va uint64) bool {
	e, err := t.walk(va, 2)
	return err == nil && binary.LittleEndian.Uint64(e)&pteLarge != 0
}
