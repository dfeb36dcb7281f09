package drill

import (
	"net"
	"sync"
)

// proxy passes TCP connections on to a server, and can cut it off: then nothing comes
// through, in either direction, and nobody is told.
type proxy struct {
	listener net.Listener
	to       string
	running  sync.WaitGroup

	mu     sync.Mutex
	change *sync.Cond // of cut and closed
	cut    bool
	closed bool
	conns  map[net.Conn]struct{}
}

// startProxy listens on a free port of loopback. The caller closes the proxy.
func startProxy(to string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, to: to, conns: map[net.Conn]struct{}{}}
	p.change = sync.NewCond(&p.mu)
	p.running.Go(p.accept)
	return p, nil
}

// addr is where the proxy listens.
func (p *proxy) addr() string { return p.listener.Addr().String() }

// setCut cuts the server off, or no longer: what was held back then comes through.
func (p *proxy) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	p.change.Broadcast()
}

// close ends all connections and waits for all goroutines.
func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.change.Broadcast()
	p.mu.Unlock()
	_ = p.listener.Close()
	p.running.Wait()
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(in) })
	}
}

func (p *proxy) serve(in net.Conn) {
	defer in.Close()
	if !p.add(in) {
		return
	}
	defer p.remove(in)
	if !p.wait() {
		return
	}
	out, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer out.Close()
	if !p.add(out) {
		return
	}
	defer p.remove(out)
	var both sync.WaitGroup
	both.Go(func() { p.pass(out, in) })
	both.Go(func() { p.pass(in, out) })
	both.Wait()
}

// pass copies until either end is closed, and closes both.
func (p *proxy) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if !p.wait() {
			return
		}
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait waits while the server is cut off; false when the proxy is closed.
func (p *proxy) wait() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.cut && !p.closed {
		p.change.Wait()
	}
	return !p.closed
}

func (p *proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.conns[c] = struct{}{}
	}
	return !p.closed
}

func (p *proxy) remove(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}
