package texto

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/pkg/conn"
	"parley/pkg/relay"
)

// accepting is a publisher that has every message accepted at once.
type accepting struct{ *broker }

func (accepting) Enqueue(_ relay.Message, _ relay.Retention, a relay.Acker, t relay.Token) {
	a.Published(t, relay.ID{}, nil)
}

// quiet is the session of a client that says nothing and reads everything, whose
// server publishes to nobody.
func quiet(t testing.TB) *session {
	f := newFixture(t, false, Config{}, conn.Config{})
	c := f.connect(t, "")
	c.next(t)
	go func() { _, _ = io.Copy(io.Discard, c.nc) }() // ends with the connection
	s := <-f.opened
	s.server.publisher = accepting{f.broker}
	return s
}

// onLoop runs f on the session's loop and waits for it.
func onLoop(s *session, f func()) {
	done := make(chan struct{})
	s.Loop().Post([]conn.Deliverer{call(func() { f(); close(done) })}, relay.Message{Time: time.Now()})
	s.Loop().Flush()
	<-done
}

type call func()

func (f call) Deliver(*relay.Message) { f() }

// delivery is a message as it comes from the bus.
func delivery(s *session, text string) *relay.Message {
	id := newID()
	body := append(append([]byte{bodyText}, id[:]...), text...)
	return &relay.Message{Topic: s.topic, From: idOne, Time: time.Now(), Body: body}
}

// A delivery allocates nothing: the frame is written into the connection's
// output, the text straight from the message's body. (The output grows to what a
// batch needs; that it goes back when it is written is tested in package conn.)
func TestDeliverAllocatesNothing(t *testing.T) {
	s := quiet(t)
	m := delivery(s, `"hello there, how are you?"`)
	onLoop(s, func() {
		if n := testing.AllocsPerRun(50, func() { s.Deliver(m) }); n != 0 {
			t.Errorf("%v allocations a delivery, want 0", n)
		}
	})
}

// Passing a message on and answering it allocates one thing, the name of the
// recipient's topic, which the bus keeps until the message is written. (With the
// race detector a sync.Pool drops things at random: hence no more exact figure.)
func TestSendAllocatesTheTopic(t *testing.T) {
	s := quiet(t)
	frame := []byte(strings.Replace(plainSend, idOne, s.id.String(), 1))
	if n := testing.AllocsPerRun(1000, func() { s.Message(frame) }); n > 1 {
		t.Errorf("%v allocations a send, want 1", n)
	}
	ack := []byte(`{"client_id":"` + idOne + `","id":"` + idTwo + `","kind":"ack","data":null}`)
	if n := testing.AllocsPerRun(1000, func() { s.Message(ack) }); n != 0 {
		t.Errorf("%v allocations an ack, want 0", n)
	}
	onLoop(s, func() {}) // nothing of it is left when the test ends
}

func TestEncodeAllocatesNothing(t *testing.T) {
	b := make([]byte, 0, 1024)
	one, two := uuid.MustParse(idOne), uuid.MustParse(idTwo)
	text := []byte(`"hello"`)
	for name, f := range map[string]func(){
		"receive": func() { appendReceive(b, one, two, idOne, text) },
		"ack":     func() { appendAck(b, one, two) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

// The size that a receive is announced with is the size that it has.
func TestReceiveSize(t *testing.T) {
	for _, text := range []string{`""`, `"hello"`, `"` + strings.Repeat("x", 1<<17) + `"`} {
		b := appendReceive(nil, uuid.MustParse(idOne), newID(), idTwo, []byte(text))
		if len(b) != receiveSize+len(text) {
			t.Errorf("%d bytes for a text of %d, announced as %d", len(b), len(text), receiveSize+len(text))
		}
		if !json.Valid(b) {
			t.Errorf("not JSON: %.200s", b)
		}
	}
}

// newID makes UUIDs of version 4 that differ.
func TestNewID(t *testing.T) {
	seen := map[uuid.UUID]bool{}
	for range 10_000 {
		id := newID()
		if id.Version() != 4 || id.Variant() != uuid.RFC4122 || seen[id] {
			t.Fatalf("%v: version %v, variant %v, seen before %v", id, id.Version(), id.Variant(), seen[id])
		}
		seen[id] = true
		if got := string(appendID(nil, id)); got != id.String() {
			t.Fatalf("written as %s, want %s", got, id)
		}
	}
}

func BenchmarkAppendReceive(b *testing.B) {
	buf := make([]byte, 0, 1024)
	one, two := uuid.MustParse(idOne), uuid.MustParse(idTwo)
	text := []byte(`"hello there, how are you?"`)
	b.ReportAllocs()
	b.SetBytes(int64(receiveSize + len(text)))
	for b.Loop() {
		appendReceive(buf, one, two, idOne, text)
	}
}

// BenchmarkSend is what the reader does with a send: decode, check, copy the
// text, hand it to the bus (which here answers at once), queue the answer.
func BenchmarkSend(b *testing.B) {
	s := quiet(b)
	frame := []byte(strings.Replace(plainSend, idOne, s.id.String(), 1))
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for i := 0; b.Loop(); i++ {
		if s.Message(frame); i%64 == 0 {
			onLoop(s, func() {}) // lest the queue grow without end
		}
	}
	onLoop(s, func() {})
}

// BenchmarkDeliver is the way of a message from the hub to the socket, the
// kernel's work included.
func BenchmarkDeliver(b *testing.B) {
	s := quiet(b)
	m := delivery(s, `"hello there, how are you?"`)
	recipients := []conn.Deliverer{s}
	b.ReportAllocs()
	b.SetBytes(int64(receiveSize + len(m.Body) - 1 - idLength))
	for i := 0; b.Loop(); i++ {
		if s.Loop().Post(recipients, *m); i%64 == 0 {
			onLoop(s, func() {})
		}
	}
	onLoop(s, func() {})
}
