package account

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func realPool() *pool {
	return newPool(prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x"}))
}

// The vector with these parameters of RFC 7914, section 12.
func TestPasswordVector(t *testing.T) {
	sum, err := hex.DecodeString("7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887")
	if err != nil {
		t.Fatal(err)
	}
	b := base64.RawStdEncoding.EncodeToString
	h, err := parseHash("$scrypt$ln=14,r=8,p=1$" + b([]byte("SodiumChloride")) + "$" + b(sum))
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{"pleaseletmein": true, "pleaseletmeout": false, "": false} {
		if fits, err := realPool().fits(t.Context(), password, h); err != nil || fits != want {
			t.Errorf("%q fits: %v (%v), want %v", password, fits, err, want)
		}
	}
}

func TestPasswordRoundTrip(t *testing.T) {
	p := realPool()
	const password = "pässword \x00 \n 🙂"
	kept, err := p.make(t.Context(), password, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(kept, "$scrypt$ln=14,r=8,p=1$") || len(kept) != len("$scrypt$ln=14,r=8,p=1$")+22+1+43 {
		t.Errorf("kept as %s", kept)
	}
	h, err := parseHash(kept)
	if err != nil {
		t.Fatal(err)
	}
	if h.String() != kept || len(h.salt) != 16 || len(h.sum) != 32 {
		t.Errorf("%s is read as %+v", kept, h)
	}
	for guess, want := range map[string]bool{password: true, password + " ": false, strings.ToUpper(password): false} {
		if fits, err := p.fits(t.Context(), guess, h); err != nil || fits != want {
			t.Errorf("%q fits: %v (%v), want %v", guess, fits, err, want)
		}
	}
	if again, err := p.make(t.Context(), password, nil); err != nil || again == kept {
		t.Errorf("the same password is kept in the same way twice (%v)", err)
	}
}

// Other parameters are read, so that they can be raised, but none that cost too much.
func TestParseHashBounds(t *testing.T) {
	stored := func(params string, salt, sum int) string {
		b := base64.RawStdEncoding.EncodeToString
		return fmt.Sprintf("$scrypt$%s$%s$%s", params, b(make([]byte, salt)), b(make([]byte, sum)))
	}
	for _, good := range []string{
		stored("ln=14,r=8,p=1", 16, 32), stored("ln=17,r=8,p=1", 16, 32), stored("ln=16,r=8,p=2", 16, 32), stored("ln=13,r=8,p=10", 16, 32),
		stored("ln=1,r=1,p=1", 8, 8), stored("ln=20,r=1,p=1", 64, 64), stored("ln=1,r=1,p=524288", 16, 32), stored("ln=1,r=524288,p=1", 16, 32),
	} {
		if h, err := parseHash(good); err != nil || h.String() != good {
			t.Errorf("%s is read as %v (%v)", good, h, err)
		}
	}
	for _, bad := range []string{
		"", "$", "$$$$", "secret", stored("ln=14,r=8,p=1", 16, 32)[1:], stored("ln=14,r=8,p=1", 16, 32) + "$",
		stored("ln=18,r=8,p=1", 16, 32), stored("ln=17,r=9,p=1", 16, 32), stored("ln=17,r=8,p=2", 16, 32), stored("ln=21,r=1,p=1", 16, 32),
		stored("ln=1,r=524289,p=1", 16, 32), stored("ln=1,r=1,p=524289", 16, 32), stored("ln=1,r=1048577,p=1", 16, 32),
		stored("ln=63,r=8,p=1", 16, 32), stored("ln=64,r=8,p=1", 16, 32), stored("ln=14,r=2147483647,p=2147483647", 16, 32),
		stored("ln=14,r=99999999999999999999,p=1", 16, 32), stored("ln=0,r=8,p=1", 16, 32), stored("ln=14,r=0,p=1", 16, 32), stored("ln=14,r=8,p=0", 16, 32),
		stored("ln=-1,r=8,p=1", 16, 32), stored("ln=+14,r=8,p=1", 16, 32), stored("ln=014,r=8,p=1", 16, 32), stored("ln=,r=8,p=1", 16, 32),
		stored("r=8,ln=14,p=1", 16, 32), stored("ln=14,r=8", 16, 32), stored("ln=14,r=8,p=1,x=1", 16, 32), stored("ln=14, r=8,p=1", 16, 32),
		stored("ln=14,r=8,p=1", 7, 32), stored("ln=14,r=8,p=1", 65, 32), stored("ln=14,r=8,p=1", 16, 7), stored("ln=14,r=8,p=1", 16, 65),
		strings.Replace(stored("ln=14,r=8,p=1", 16, 32), "scrypt", "argon2id", 1), "$scrypt$ln=14,r=8,p=1$AAAAAAAAAAA=$AAAAAAAAAAA", "$scrypt$ln=14,r=8,p=1$AAAA\nAAAAAAA$AAAAAAAAAAA",
		"$scrypt$ln=14,r=8,p=1$AAAAAAAAAAB$AAAAAAAAAAA", // bits that are nothing's
	} {
		if h, err := parseHash(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, h)
		}
	}
}

func TestDecoyFitsNothing(t *testing.T) {
	if h, err := parseHash(decoy.String()); err != nil || h.costLog != newHash().costLog || h.blockSize != newHash().blockSize || h.parallel != newHash().parallel {
		t.Errorf("the decoy is read as %+v (%v): it must cost what a password does", h, err)
	}
	if fits, err := realPool().fits(t.Context(), "", decoy); fits || err != nil {
		t.Errorf("nothing fits the decoy: %v, %v", fits, err)
	}
}

// What is read is within bounds, and there is one way to write it.
func FuzzParseHash(f *testing.F) {
	f.Add(decoy.String())
	f.Add("$scrypt$ln=1,r=1,p=1$AAAAAAAAAAA$AAAAAAAAAAA")
	f.Add("$scrypt$ln=99,r=8,p=1$AAAAAAAAAAA$")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHash(s)
		if err != nil {
			return
		}
		if h.String() != s {
			t.Errorf("%q is written as %q", s, h)
		}
		work := float64(h.blockSize) * float64(h.parallel) * float64(uint64(1)<<h.costLog)
		if h.costLog > 20 || work > maxWork || len(h.salt) > maxStoredBytes || len(h.sum) > maxStoredBytes {
			t.Errorf("%q costs too much", s)
		}
	})
}
