// Command web serves the files of /srv, whose bodies net/http sends with
// sendfile, and a line of its own.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	if _, err := os.Stat("/srv"); err == nil {
		http.Handle("/files/", http.StripPrefix("/files", http.FileServer(http.Dir("/srv"))))
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	log.Fatal(http.ListenAndServe(":8080", nil))
}
