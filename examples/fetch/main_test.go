package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"noyau.dev/examples/internal/try"
)

func TestMain(m *testing.M) { try.Main(m) }

// pki is a certificate authority made for one test.
type pki struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newPKI(t *testing.T) *pki {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &pki{cert, key}
}

// issue makes a server certificate for ips that ends at the given time.
func (p *pki) issue(t *testing.T, until time.Time, ips ...string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Test server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
	}
	for _, ip := range ips {
		tmpl.IPAddresses = append(tmpl.IPAddresses, net.ParseIP(ip))
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, p.cert, &key.PublicKey, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// file writes the authority's certificate into dir.
func (p *pki) file(t *testing.T, dir string) {
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFetch(t *testing.T) {
	host, caArg := "127.0.0.1", ""
	if !try.Native() {
		host = "10.0.2.2" // the host's loopback as a pVM sees it
	}
	authority, other := newPKI(t), newPKI(t)
	later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Minute)
	for _, c := range []struct {
		name    string
		trusted *pki
		cert    tls.Certificate
		maxTLS  uint16
		code    int
		want    []string
	}{
		{"verified", authority, authority.issue(t, later, host), 0, 0,
			[]string{"HTTP/2.0 418 I'm a teapot", "TLS 1.3", "chain:   verified", "CN=Test server", "CN=Test CA", "5 bytes"}},
		{"TLS 1.2", authority, authority.issue(t, later, host), tls.VersionTLS12, 0,
			[]string{"TLS 1.2", "chain:   verified"}},
		{"unknown authority", other, authority.issue(t, later, host), 0, 1, []string{"NOT verified", "unknown authority"}},
		{"expired", authority, authority.issue(t, past, host), 0, 1, []string{"NOT verified", "expired"}},
		{"another host", authority, authority.issue(t, later, "192.0.2.1"), 0, 1, []string{"NOT verified", "192.0.2.1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusTeapot)
				io.WriteString(w, "short")
			}))
			srv.EnableHTTP2 = true
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{c.cert}, MaxVersion: c.maxTLS}
			srv.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are the point
			srv.StartTLS()
			defer srv.Close()
			_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			c.trusted.file(t, dir)
			caArg = filepath.Join(dir, "ca.pem")
			run := []string{"--net", "host-loopback", "-v", dir + ":/ca:ro"}
			if !try.Native() {
				caArg = "/ca/ca.pem"
			}
			out, code := try.Output(t, try.Options{Run: run, Args: []string{"-ca", caArg, "https://" + net.JoinHostPort(host, port)}})
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, w := range c.want {
				if !strings.Contains(out, w) {
					t.Errorf("printed\n%s\nwhich lacks %q", out, w)
				}
			}
		})
	}
}
