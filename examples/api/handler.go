package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log"
	"net/http"
)

// maxNote bounds the body of a request, in bytes.
const maxNote = 1 << 20

// Handler serves the notes of s.
func Handler(s *Store) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("POST /notes", func(w http.ResponseWriter, r *http.Request) {
		var n Note
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxNote))
		d.DisallowUnknownFields()
		if err := d.Decode(&n); err != nil {
			complain(w, http.StatusBadRequest, "want a note as JSON: "+err.Error())
			return
		}
		if n.Title == "" {
			complain(w, http.StatusBadRequest, "a note needs a title")
			return
		}
		n, err := s.Add(n)
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Location", "/notes/"+n.ID)
		reply(w, http.StatusCreated, n)
	})
	mux.HandleFunc("GET /notes", func(w http.ResponseWriter, r *http.Request) {
		notes, err := s.All()
		if err != nil {
			fail(w, err)
			return
		}
		reply(w, http.StatusOK, notes)
	})
	mux.HandleFunc("GET /notes/{id}", func(w http.ResponseWriter, r *http.Request) {
		n, err := s.Get(r.PathValue("id"))
		if err != nil {
			fail(w, err)
			return
		}
		reply(w, http.StatusOK, n)
	})
	mux.HandleFunc("DELETE /notes/{id}", func(w http.ResponseWriter, r *http.Request) {
		if err := s.Delete(r.PathValue("id")); err != nil {
			fail(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		log.Print("reply: ", err)
	}
}

func complain(w http.ResponseWriter, code int, why string) {
	reply(w, code, map[string]string{"error": why})
}

// fail answers for an error of the store.
func fail(w http.ResponseWriter, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		complain(w, http.StatusNotFound, "there is no such note")
		return
	}
	log.Print("store: ", err)
	complain(w, http.StatusInternalServerError, "the note could not be stored or read")
}
