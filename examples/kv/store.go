package main

import (
	"time"

	"go.etcd.io/bbolt"
)

var bucket = []byte("kv")

// A Store is a map on disk. Its methods are safe for concurrent use; when a
// write returns without error it is on disk.
type Store struct {
	db *bbolt.DB
}

// Open opens the database in file, which it makes if need be. It fails if
// another program has it open.
func Open(file string) (*Store, error) {
	db, err := bbolt.Open(file, 0o644, &bbolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	db.MaxBatchDelay = time.Millisecond
	return &Store{db}, nil
}

// Path is the database file.
func (s *Store) Path() string { return s.db.Path() }

// Close waits for writes under way and closes the database.
func (s *Store) Close() error { return s.db.Close() }

// Set stores value under key. Writes that come at the same time share a commit.
func (s *Store) Set(key, value string) error {
	return s.db.Batch(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).Put([]byte(key), []byte(value))
	})
}

// Get returns the value of key and whether there is one.
func (s *Store) Get(key string) (value string, ok bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucket).Get([]byte(key))
		value, ok = string(v), v != nil
		return nil
	})
	return value, ok, err
}

// Delete removes key and says whether it was there.
func (s *Store) Delete(key string) (ok bool, err error) {
	err = s.db.Batch(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		ok = b.Get([]byte(key)) != nil
		return b.Delete([]byte(key))
	})
	return ok, err
}

// Count returns the number of keys.
func (s *Store) Count() (n int, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		n = tx.Bucket(bucket).Stats().KeyN
		return nil
	})
	return n, err
}
