// Package park keeps HTTP requests waiting for little: of a parked request there is its
// socket, a small goroutine, and what whoever answers it needs to know. All that net/http
// had for it, its goroutine with its stack, its buffers, its header, is given back; and when
// it has been answered its connection goes back to the server, for the next request.
package park

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	// ErrDraining means that nothing is parked any more.
	ErrDraining = errors.New("the node is going down")
	// ErrNotParkable means that a request's connection is not one that can be waited for
	// without a buffer.
	ErrNotParkable = errors.New("the connection cannot be parked")
)

// Lot is where the requests of a node wait. Use New, Listener, and in the end Drain and
// Close. All methods may be called from any goroutine.
type Lot struct {
	// Fixed after New.
	keepAlive time.Duration
	back      *returned
	own       sync.WaitGroup // a goroutine for each parked request, and for each idle connection

	draining atomic.Bool
	parked   atomic.Int64

	mu     sync.Mutex
	spots  map[*Spot]struct{} // parked and idle ones
	closed bool
}

// New makes a Lot whose connections wait so long for their next request.
func New(keepAlive time.Duration) *Lot {
	return &Lot{keepAlive: keepAlive, back: newReturned(), spots: map[*Spot]struct{}{}}
}

// Len is how many requests are parked.
func (l *Lot) Len() int { return int(l.parked.Load()) }

// Draining tells whether Drain was called.
func (l *Lot) Draining() bool { return l.draining.Load() }

// Guest is who is to answer a parked request. It has a goroutine of its own, whose stack is
// as small as can be until Answer is called for the first time.
type Guest struct {
	Until time.Time // how long to wait; the zero time: not at all
	// Parked is called before the goroutine starts, for whoever is going to Wake the Spot;
	// nil: not.
	Parked func(*Spot)
	// Answer is called when a wait has ended. It answers, or returns true to wait on, until
	// the same moment.
	Answer func(*Spot, Cause) (again bool)
}

// Park takes the connection of a request from its server and has the guest answer it; the
// handler is to return then, and neither it nor the guest may use w
// or r any more. What w's header has becomes part of the answer. The request's body must
// have been read. On an error nothing has happened: ErrDraining, ErrNotParkable.
func (l *Lot) Park(w http.ResponseWriter, r *http.Request, g Guest) error {
	l.mu.Lock()
	refused := l.draining.Load() || l.closed
	if !refused {
		l.own.Add(1)
	}
	l.mu.Unlock()
	if refused {
		return ErrDraining
	}
	s, err := l.take(w, r)
	if err != nil {
		l.own.Done()
		return err
	}
	l.parked.Add(1)
	l.add(s)
	if g.Parked != nil {
		g.Parked(s)
	}
	go func() {
		defer l.own.Done()
		s.run(&g)
	}()
	return nil
}

// take makes a Spot of a request.
func (l *Lot) take(w http.ResponseWriter, r *http.Request) (*Spot, error) {
	s := &Spot{lot: l, header: headerOf(w.Header()), keep: r.ProtoAtLeast(1, 1) && !r.Close}
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotParkable, err)
	}
	fail := func(err error) (*Spot, error) {
		_ = nc.Close() // nobody can answer on it any more
		return nil, fmt.Errorf("%w: %w", ErrNotParkable, err)
	}
	if n := rw.Reader.Buffered(); n > 0 { // the next request came already
		early, _ := rw.Reader.Peek(n)
		s.early = append([]byte(nil), early...)
	}
	if p, ok := nc.(*prefixed); ok {
		s.early, nc = append(s.early, p.rest()...), p.TCPConn
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return fail(fmt.Errorf("it is a %T", nc))
	}
	s.nc = tcp
	if s.raw, err = tcp.SyscallConn(); err != nil {
		return fail(err)
	}
	return s, nil
}

// add notes a connection that Drain and Close are to know of. What comes after them sees
// it by itself.
func (l *Lot) add(s *Spot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spots[s] = struct{}{}
	if l.closed {
		_ = s.nc.Close() // it ends by that
	} else if l.draining.Load() {
		s.Wake()
	}
}

func (l *Lot) remove(s *Spot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.spots, s)
}

// Drain has nothing parked any more and wakes whoever is, to be answered now. Connections
// that wait for their next request are closed. It does not wait.
func (l *Lot) Drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining.Store(true)
	for s := range l.spots {
		s.Wake()
	}
}

// Close cuts all connections that are left and waits for every goroutine. A second call
// waits for the first.
func (l *Lot) Close() {
	l.mu.Lock()
	l.draining.Store(true)
	l.closed = true
	for s := range l.spots {
		_ = s.nc.Close()
	}
	l.mu.Unlock()
	_ = l.back.Close() // nil
	l.own.Wait()
}

// run answers a parked request, and has its connection wait for the next one.
func (s *Spot) run(g *Guest) {
	defer s.end()
	defer s.lot.parked.Add(-1)
	for g.Answer(s, s.Wait(g.Until)) {
	}
}

// end is when a request was served, also by a panic.
func (s *Spot) end() {
	l := s.lot
	l.remove(s)
	l.mu.Lock()
	stay := s.whole && s.keep && !l.draining.Load()
	if stay {
		l.own.Add(1) // not zero: this goroutine is counted
	}
	l.mu.Unlock()
	if !stay {
		_ = s.nc.Close() // nothing is lost by an error
		return
	}
	// Another goroutine, since this one's stack may have grown.
	next := &Spot{lot: l, nc: s.nc, raw: s.raw, early: s.early}
	go func() {
		defer l.own.Done()
		next.idle()
	}()
}

// idle waits for the next request and gives the connection back to the server then.
func (s *Spot) idle() {
	s.lot.add(s)
	cause := s.Wait(time.Now().Add(s.lot.keepAlive))
	s.lot.remove(s)
	if cause != Input || s.lot.draining.Load() || s.nc.SetDeadline(time.Time{}) != nil {
		_ = s.nc.Close()
		return
	}
	var c net.Conn = s.nc
	if len(s.early) > 0 {
		c = &prefixed{TCPConn: s.nc, before: s.early}
	}
	s.lot.back.give(c)
}

// Listener has the connections that come back. The server from whose requests Park took
// them is to Serve it, beside its own listener.
func (l *Lot) Listener(addr net.Addr) net.Listener {
	l.back.addr = addr
	return l.back
}

// returned is a net.Listener of connections that were taken from a server.
type returned struct {
	addr  net.Addr // fixed before Accept
	conns chan net.Conn
	ended chan struct{}
	end   sync.Once
}

func newReturned() *returned {
	return &returned{conns: make(chan net.Conn), ended: make(chan struct{})}
}

// give waits until the server takes it, or there is none any more.
func (b *returned) give(c net.Conn) {
	select {
	case b.conns <- c:
	case <-b.ended:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (b *returned) Accept() (net.Conn, error) {
	select {
	case c := <-b.conns:
		return c, nil
	case <-b.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (b *returned) Close() error {
	b.end.Do(func() { close(b.ended) })
	return nil
}

// Addr implements net.Listener.
func (b *returned) Addr() net.Addr { return b.addr }

// prefixed is a connection of which something has been read.
type prefixed struct {
	*net.TCPConn
	mu     sync.Mutex
	before []byte
}

// Read implements net.Conn.
func (p *prefixed) Read(b []byte) (int, error) {
	p.mu.Lock()
	if len(p.before) > 0 {
		defer p.mu.Unlock()
		n := copy(b, p.before)
		p.before = p.before[n:]
		return n, nil
	}
	p.mu.Unlock()
	return p.TCPConn.Read(b)
}

// rest is what was not read.
func (p *prefixed) rest() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.before
}

var _ syscall.Conn = (*prefixed)(nil)
