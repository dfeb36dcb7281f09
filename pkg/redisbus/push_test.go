package redisbus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// bulk is a string as Redis sends it.
func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

func pushed(elements ...string) string {
	text := fmt.Sprintf("*%d\r\n", len(elements))
	for _, e := range elements {
		if strings.HasPrefix(e, ":") {
			text += e + "\r\n"
		} else {
			text += bulk(e)
		}
	}
	return text
}

// However the stream is cut, the same comes out.
func TestPushReader(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	var stream string
	var want []push
	add := func(text string, p push) { stream, want = stream+text, append(want, p) }
	for range 200 {
		payload := strings.Repeat("\r\n$x", r.IntN(100))
		switch r.IntN(10) {
		case 0:
			payload = strings.Repeat("y", r.IntN(3*pushBytes))
		case 1:
			add(pushed("subscribe", "a", ":1"), push{kind: "subscribe", channel: "a"})
		case 2:
			add(pushed("sunsubscribe", "b", ":0"), push{kind: "sunsubscribe", channel: "b"})
		case 3:
			add("*3\r\n"+bulk("unsubscribe")+"$-1\r\n:0\r\n", push{})
		case 4:
			add("+PONG\r\n", push{})
		}
		channel := fmt.Sprint("channel ", r.IntN(1000))
		kind := []string{"message", "smessage"}[r.IntN(2)]
		add(pushed(kind, channel, payload), push{kind: "message", channel: channel, payload: payload})
	}
	for name, from := range map[string]io.Reader{
		"at once": strings.NewReader(stream), "byte by byte": iotest.OneByteReader(strings.NewReader(stream)),
		"in halves": iotest.HalfReader(strings.NewReader(stream)), "with the end": iotest.DataErrReader(strings.NewReader(stream)),
	} {
		in := newPushReader(from)
		for i, w := range want {
			if p, err := in.next(); err != nil || p != w {
				t.Fatalf("%s, seed %d: push %d is %.60q of %q (%v), want %.60q", name, seed, i, p.payload, p.channel, err, w.payload)
			}
		}
		if p, err := in.next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %+v (%v) after the end", name, p, err)
		}
		if len(in.buf) != pushBytes {
			t.Errorf("%s: a buffer of %d bytes is left", name, len(in.buf))
		}
	}
}

func TestPushErrors(t *testing.T) {
	for _, text := range []string{
		"x\r\n", "\r\n", "\n", "abc\n", "*0\r\n", "*9\r\n", "*x\r\n", "*-1\r\n", "*3\r\n+message\r\n", "*3\r\n$x\r\n", "*1\r\n$3\r\nabcd\r\n",
		"*3\r\n$99999999999\r\n", "*3\r\n$536870913\r\n", "*1\r\n$7\r\nmessage\r\n", "*2\r\n" + bulk("message") + bulk("c"),
		strings.Repeat("+", maxPushLine+1), "*3\r\n$" + strings.Repeat("1", maxPushLine+1),
	} {
		if p, err := newPushReader(strings.NewReader(text)).next(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%.40q is taken as %+v (%v)", text, p, err)
		}
	}
	_, err := newPushReader(strings.NewReader("-NOPERM no\r\n")).next()
	if err == nil || !strings.Contains(err.Error(), "NOPERM no") {
		t.Errorf("an error of Redis: %v", err)
	}
}

// One message costs one piece of memory.
func TestPushAllocations(t *testing.T) {
	stream := []byte(strings.Repeat(pushed("message", "parley:t:client/x", strings.Repeat("x", 200)), 100))
	from := bytes.NewReader(stream)
	in := newPushReader(from)
	allocations := testing.AllocsPerRun(10, func() {
		from.Reset(stream)
		for range 100 {
			if _, err := in.next(); err != nil {
				t.Fatal(err)
			}
		}
	})
	if allocations > 100 {
		t.Errorf("%v allocations for 100 messages", allocations)
	}
}

func FuzzPush(f *testing.F) {
	for _, text := range []string{pushed("message", "a", "b"), pushed("subscribe", "a", ":1"), "-ERR\r\n", "*3\r\n$-1\r\n:1\r\n$0\r\n\r\n", "*"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		whole, split := newPushReader(bytes.NewReader(text)), newPushReader(iotest.OneByteReader(bytes.NewReader(text)))
		for {
			a, errA := whole.next()
			b, errB := split.next()
			if a != b || (errA == nil) != (errB == nil) {
				t.Fatalf("%+v (%v) at once, %+v (%v) byte by byte", a, errA, b, errB)
			}
			if errA != nil {
				return
			}
		}
	})
}
