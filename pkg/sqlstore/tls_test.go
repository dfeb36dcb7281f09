package sqlstore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
	"parley/pkg/sqlproc"
)

// certificate writes one that nobody has signed, and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"db.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// Connections are encrypted when the URL says so, and with tls=true only to a server
// that proves who it is.
func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	server := relaytest.StartMariaDBWith(t, sqlproc.Options{Args: []string{"--ssl-cert=" + cert, "--ssl-key=" + key}})
	url := server.NewURL(t)
	for query, encrypted := range map[string]bool{"": false, "?tls=false": false, "?tls=skip-verify": true, "?tls=preferred": true} {
		s := open(t, url+query)
		var name, cipher string
		if err := s.read.QueryRow("SHOW SESSION STATUS LIKE 'Ssl_cipher'").Scan(&name, &cipher); err != nil || (cipher != "") != encrypted {
			t.Errorf("%q: the cipher is %q (%v)", query, cipher, err)
		}
		if _, err := s.Users().ByID(t.Context(), 1); !errors.Is(err, relay.ErrNoUser) {
			t.Errorf("%q: %v", query, err)
		}
	}
	s, err := Open(t.Context(), Options{URL: url + "?tls=true"})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody has signed: %v", err)
	}
	if err == nil {
		_ = s.Close()
	}
}
