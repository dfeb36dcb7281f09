package park

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/pkg/relaytest"
)

// patience bounds what a test waits for; nothing is expected to take long.
const patience = 20 * time.Second

// fixture is a server whose requests to /park wait in a Lot.
type fixture struct {
	*Lot
	t      *testing.T
	addr   string
	spots  chan *Spot    // that wait
	causes chan Cause    // why they did not any more
	errs   chan error    // of Park, when it refuses
	wait   time.Duration // how long a parked request waits
	server *http.Server
}

func newFixture(t *testing.T, keepAlive time.Duration) *fixture {
	t.Helper()
	relaytest.NoLeaks(t)
	f := &fixture{Lot: New(keepAlive), t: t, spots: make(chan *Spot, 100), causes: make(chan Cause, 100), errs: make(chan error, 100), wait: patience}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("/park", f.park)
	mux.HandleFunc("/plain", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "plain") })
	f.server = &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	var wg sync.WaitGroup
	for _, l := range []net.Listener{l, f.Listener(l.Addr())} {
		wg.Go(func() {
			if err := f.server.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		if err := f.server.Close(); err != nil {
			t.Error(err)
		}
		f.Close()
		f.Close() // does nothing
		wg.Wait()
	})
	return f
}

// park has a request wait, and answers it with why it does not any more.
func (f *fixture) park(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Before", "it was parked")
	err := f.Park(w, r, Guest{time.Now().Add(f.wait), func(s *Spot) { f.spots <- s }, func(s *Spot, cause Cause) bool {
		f.causes <- cause
		if cause != Gone {
			if err := s.Answer(http.StatusAccepted, fmt.Appendf(nil, "cause %d", cause), Field{"X-After", "it was\r\nanswered"}); err != nil {
				f.t.Errorf("Answer: %v", err)
			}
			if s.Answer(http.StatusOK, nil) == nil {
				f.t.Error("it is answered twice")
			}
		}
		return false
	}})
	if err != nil {
		f.errs <- err
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// client is one connection.
type client struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (f *fixture) dial() *client {
	f.t.Helper()
	c, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		f.t.Fatal(err)
	}
	return &client{c, f.t, bufio.NewReader(c)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) ask(path string) { c.send("GET " + path + " HTTP/1.1\r\nHost: test\r\n\r\n") }

// answered reads an answer.
func (c *client) answered(status int, body string) *http.Response {
	c.t.Helper()
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != status || string(text) != body {
		c.t.Fatalf("answered with %d %q (%v), want %d %q", r.StatusCode, text, err, status, body)
	}
	return r
}

// closed expects the end of the connection.
func (c *client) closed() {
	c.t.Helper()
	if b, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		c.t.Fatalf("read %q, %v; want the end", b, err)
	}
}

// A connection is used again, parked and not, any number of times; the server's own
// goroutine is not needed for those that wait.
func TestAnswerAndNextRequest(t *testing.T) {
	f := newFixture(t, patience)
	c := f.dial()
	for range 3 {
		c.ask("/park")
		s := <-f.spots
		if f.Len() != 1 {
			t.Errorf("%d are parked", f.Len())
		}
		s.Wake()
		r := c.answered(http.StatusAccepted, fmt.Sprint("cause ", Woken))
		for name, want := range map[string]string{"X-Before": "it was parked", "X-After": "it was  answered", "Connection": ""} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if _, err := http.ParseTime(r.Header.Get("Date")); err != nil {
			t.Error(err)
		}
		relaytest.Eventually(t, "nothing is parked", func() bool { return f.Len() == 0 })
		c.ask("/plain")
		c.answered(http.StatusOK, "plain")
	}
}

func TestWhyAWaitEnds(t *testing.T) {
	f := newFixture(t, patience)
	f.wait = time.Millisecond
	c := f.dial()
	c.ask("/park")
	c.answered(http.StatusAccepted, fmt.Sprint("cause ", Late))
	f.wait = patience

	// The next request before the answer, with the first one or after it.
	c.ask("/plain")
	c.answered(http.StatusOK, "plain")
	c.send(strings.Repeat("GET /park HTTP/1.1\r\nHost: test\r\n\r\n", 3) + "GET /plain HTTP/1.1\r\nHost: test\r\n\r\n")
	for range 3 {
		c.answered(http.StatusAccepted, fmt.Sprint("cause ", Input))
	}
	c.answered(http.StatusOK, "plain")
	drain(f.spots)
	c.ask("/park")
	<-f.spots
	c.ask("/plain")
	c.answered(http.StatusAccepted, fmt.Sprint("cause ", Input))
	c.answered(http.StatusOK, "plain")

	drain(f.causes)
	c.ask("/park")
	<-f.spots
	c.Close()
	if got := <-f.causes; got != Gone {
		t.Errorf("the client has gone: cause %d, want %d", got, Gone)
	}
}

func drain[T any](c chan T) {
	for len(c) > 0 {
		<-c
	}
}

// Who is woken before he waits does not wait, once.
func TestWakeBefore(t *testing.T) {
	f := newFixture(t, patience)
	causes := make(chan Cause, 4)
	f.server.Handler.(*http.ServeMux).HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		calls := 0
		if err := f.Park(w, r, Guest{time.Now().Add(patience), func(s *Spot) { s.Wake(); s.Wake() }, func(s *Spot, cause Cause) bool {
			causes <- cause
			if calls++; calls == 1 {
				s.Wake() // on its own goroutine, too
				return true
			}
			causes <- s.Wait(time.Now().Add(time.Millisecond))
			causes <- s.Wait(time.Now().Add(-time.Second))
			_ = s.Answer(http.StatusOK, nil)
			return false
		}}); err != nil {
			t.Error(err)
		}
	})
	c := f.dial()
	c.ask("/early")
	c.answered(http.StatusOK, "")
	for i, want := range []Cause{Woken, Woken, Late, Late} {
		if got := <-causes; got != want {
			t.Errorf("Wait %d: cause %d, want %d", i, got, want)
		}
	}
}

// A client that does not want the connection again does not have it.
func TestConnectionEnds(t *testing.T) {
	f := newFixture(t, patience)
	for _, text := range []string{"GET /park HTTP/1.0\r\n\r\n", "GET /park HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"} {
		c := f.dial()
		c.send(text)
		(<-f.spots).Wake()
		if r := c.answered(http.StatusAccepted, fmt.Sprint("cause ", Woken)); !r.Close {
			t.Errorf("%q is answered as if the connection went on", text)
		}
		c.closed()
	}
	// One that was not answered is of no use.
	f.server.Handler.(*http.ServeMux).HandleFunc("/silent", func(w http.ResponseWriter, r *http.Request) {
		if err := f.Park(w, r, Guest{Answer: func(*Spot, Cause) bool { return false }}); err != nil {
			t.Error(err)
		}
	})
	c := f.dial()
	c.ask("/silent")
	c.closed()
}

func TestIdleConnectionEnds(t *testing.T) {
	f := newFixture(t, time.Millisecond)
	c := f.dial()
	c.ask("/park")
	(<-f.spots).Wake()
	c.answered(http.StatusAccepted, fmt.Sprint("cause ", Woken))
	c.closed()
}

// A drain wakes all that wait, closes what is idle, and refuses what comes.
func TestDrain(t *testing.T) {
	f := newFixture(t, patience)
	idle, waiting, late := f.dial(), f.dial(), f.dial()
	idle.ask("/park")
	(<-f.spots).Wake()
	idle.answered(http.StatusAccepted, fmt.Sprint("cause ", Woken))
	waiting.ask("/park")
	<-f.spots
	late.ask("/plain")
	late.answered(http.StatusOK, "plain")

	f.Drain()
	if !f.Draining() {
		t.Error("it does not drain")
	}
	if r := waiting.answered(http.StatusAccepted, fmt.Sprint("cause ", Woken)); !r.Close {
		t.Error("the connection goes on")
	}
	waiting.closed()
	idle.closed()
	late.ask("/park")
	if r := late.answered(http.StatusServiceUnavailable, ""); r.Header.Get("X-Before") == "" {
		t.Error("the header is lost")
	}
	if err := <-f.errs; !errors.Is(err, ErrDraining) {
		t.Errorf("error = %v, want %v", err, ErrDraining)
	}
}

// Close cuts what waits and what is idle.
func TestClose(t *testing.T) {
	f := newFixture(t, patience)
	idle, waiting := f.dial(), f.dial()
	idle.ask("/park")
	(<-f.spots).Wake()
	idle.answered(http.StatusAccepted, fmt.Sprint("cause ", Woken))
	waiting.ask("/park")
	<-f.spots
	drain(f.causes)
	f.Close()
	if got := <-f.causes; got != Gone {
		t.Errorf("cause %d, want %d", got, Gone)
	}
	idle.closed()
	waiting.closed()
}

// What is no connection of the server's own kind cannot be parked.
func TestNotParkable(t *testing.T) {
	l := New(patience)
	defer l.Close()
	w := struct{ http.ResponseWriter }{}
	err := l.Park(header{w}, &http.Request{}, Guest{Answer: func(*Spot, Cause) bool { t.Error("it is served"); return false }})
	if !errors.Is(err, ErrNotParkable) || l.Len() != 0 {
		t.Errorf("error = %v, want %v", err, ErrNotParkable)
	}
}

type header struct{ http.ResponseWriter }

func (header) Header() http.Header { return http.Header{} }

// Many that come, are answered, and come again, on many connections at once.
func TestMany(t *testing.T) {
	const clients, rounds = 50, 20
	f := newFixture(t, patience)
	stop := make(chan struct{})
	var waker sync.WaitGroup
	waker.Go(func() {
		for {
			select {
			case s := <-f.spots:
				s.Wake()
			case <-stop:
				return
			}
		}
	})
	var wg sync.WaitGroup
	for range clients {
		c := f.dial()
		wg.Go(func() {
			for range rounds {
				c.ask("/park")
				c.answered(http.StatusAccepted, fmt.Sprint("cause ", Woken))
				<-f.causes
			}
		})
	}
	wg.Wait()
	close(stop)
	waker.Wait()
	relaytest.Eventually(t, "nothing is parked", func() bool { return f.Len() == 0 })
}

// What the peer's system has is taken; what was written to one that has gone is not.
func TestTaken(t *testing.T) {
	f := newTakenFixture(t)
	c := f.dial()
	c.ask("/taken")
	<-f.spots
	c.answered(http.StatusOK, "answer")
	if !<-f.taken {
		t.Error("an answer that was read is not taken")
	}
	c.ask("/taken")
	s := <-f.spots
	c.Close()
	relaytest.Eventually(t, "the peer has gone", func() bool {
		gone := false
		if err := s.raw.Control(func(fd uintptr) { cause, _ := look(fd); gone = cause == Gone }); err != nil {
			t.Error(err)
		}
		return gone
	})
	f.write <- struct{}{}
	if <-f.taken {
		t.Error("an answer to one who has gone is taken")
	}
}

// takenFixture answers requests to /taken when it may, the first at once, and tells
// whether the answer was taken.
type takenFixture struct {
	*fixture
	write chan struct{}
	taken chan bool
}

func newTakenFixture(t *testing.T) *takenFixture {
	f := &takenFixture{newFixture(t, patience), make(chan struct{}, 1), make(chan bool, 1)}
	f.write <- struct{}{}
	f.server.Handler.(*http.ServeMux).HandleFunc("/taken", func(w http.ResponseWriter, r *http.Request) {
		if err := f.Park(w, r, Guest{Answer: func(s *Spot, _ Cause) bool {
			f.spots <- s
			<-f.write
			err := s.Answer(http.StatusOK, []byte("answer"))
			f.taken <- err == nil && s.Taken(patience/20)
			return false
		}}); err != nil {
			t.Error(err)
		}
	})
	return f
}
