// Command fetch gets an HTTPS address and says what it saw: the status, the
// version of TLS and whether the server's certificate chain could be verified.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	ca := flag.String("ca", "", "trust the certificates of this PEM `file` instead of the system's")
	timeout := flag.Duration("timeout", 30*time.Second, "give up after this `time`")
	body := flag.Bool("body", false, "print the body too")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: fetch [flags] https://…\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	if err := fetch(ctx, os.Stdout, flag.Arg(0), *ca, *body); err != nil {
		fmt.Fprintln(os.Stderr, "fetch:", err)
		os.Exit(1)
	}
}

// fetch gets url and reports to w. ca is a file of trusted certificates, "" for
// those of the system.
func fetch(ctx context.Context, w io.Writer, url, ca string, body bool) error {
	roots, err := pool(ca)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: true,
	}}
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		fmt.Fprintln(w, "chain:   NOT verified:", bad.Err)
		chain(w, bad.UnverifiedCertificates)
		return errors.New("the server's certificate could not be verified")
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.TLS == nil {
		return fmt.Errorf("%s ended at %s, which is not HTTPS", url, resp.Request.URL)
	}
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "status: ", resp.Proto, resp.Status)
	fmt.Fprintln(w, "tls:    ", tls.VersionName(resp.TLS.Version), tls.CipherSuiteName(resp.TLS.CipherSuite))
	fmt.Fprintln(w, "chain:   verified")
	chain(w, resp.TLS.VerifiedChains[0])
	fmt.Fprintln(w, "body:   ", len(content), "bytes")
	if body {
		w.Write(content)
	}
	return nil
}

func chain(w io.Writer, certs []*x509.Certificate) {
	for _, c := range certs {
		fmt.Fprintf(w, "         %s, until %s\n", c.Subject, c.NotAfter.Format(time.DateOnly))
	}
}

// pool reads trusted certificates; nil means those of the system.
func pool(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM form", file)
	}
	return p, nil
}
