package redisbus_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// swallower is a TCP proxy that can lose what passes through it while the
// connections stand, as a broken network path does.
type swallower struct {
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu    sync.Mutex
	links []*link
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	subscriber     atomic.Bool // SUBSCRIBE has passed
	lost           atomic.Bool // nothing passes any more
}

func startSwallower(t *testing.T, to string) *swallower {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &swallower{listener: l, to: to}
	s.wg.Go(s.accept)
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		for _, k := range s.links {
			k.close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *swallower) url() string { return "redis://" + s.listener.Addr().String() }

func (s *swallower) accept() {
	for {
		client, err := s.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", s.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		k := &link{client: client, server: server}
		s.mu.Lock()
		s.links = append(s.links, k)
		s.mu.Unlock()
		s.wg.Go(func() { k.pass(server, client) })
		s.wg.Go(func() { k.pass(client, server) })
	}
}

func (k *link) close() {
	_ = k.client.Close()
	_ = k.server.Close()
}

// pass hands bytes on, or loses them, until one side closes.
func (k *link) pass(to, from net.Conn) {
	defer k.close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if from == k.client && bytes.Contains(b[:n], []byte("\r\nsubscribe\r\n")) {
			k.subscriber.Store(true)
		}
		if k.lost.Load() {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// swallow loses all that passes through the connections made so far, or only
// through those of subscribers, and returns their number.
func (s *swallower) swallow(all bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.links {
		if (all || k.subscriber.Load()) && !k.lost.Load() {
			k.lost.Store(true)
			n++
		}
	}
	return n
}

// A subscriber connection that stands and says nothing is found and replaced.
func TestCanaryFindsSilentConnection(t *testing.T) {
	for _, c := range []struct {
		name string
		all  bool
	}{{"subscriber", false}, {"every connection", true}} {
		t.Run(c.name, func(t *testing.T) {
			relaytest.NoLeaks(t)
			r := relaytest.StartRedis(t)
			proxy := startSwallower(t, r.Addr())
			from, to := join(t, r.URL()), join(t, proxy.url())
			ready(t, from, to)
			const topics = 20
			subscribeTraffic(t, to, topics)
			to.hears(t, from, topics)
			if n := proxy.swallow(c.all); n == 0 {
				t.Fatal("nothing to swallow")
			}
			began := time.Now()
			unready := time.Duration(0)
			relaytest.Eventually(t, "every topic is told of the gap", func() bool {
				if unready == 0 && to.Ready() != nil {
					unready = time.Since(began)
				}
				// Publishing goes on, or fails in time.
				if _, err := to.Publish(t.Context(), relay.Message{Topic: trafficTopic(0), Body: []byte("anybody?")}, relay.Retention{}); err != nil && !errors.Is(err, relay.ErrUnavailable) {
					t.Errorf("error = %v, want none or one that is ErrUnavailable", err)
				}
				return to.Gaps() >= topics
			})
			t.Logf("not ready after %v, replaced after %v", unready.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
			to.hears(t, from, topics)
			ready(t, to)
		})
	}
}

// The proxy itself passes and loses.
func TestSwallower(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	proxy := startSwallower(t, r.Addr())
	nc, err := net.Dial("tcp", proxy.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ask := func() error {
		if err := nc.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			return err
		}
		if _, err := io.WriteString(nc, "PING\r\n"); err != nil {
			return err
		}
		_, err := io.ReadFull(nc, make([]byte, len("+PONG\r\n")))
		return err
	}
	relaytest.Eventually(t, "the proxy passes", func() bool { return ask() == nil })
	proxy.swallow(true)
	var timeout net.Error
	if err := ask(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("error = %v, want a timeout", err)
	}
}
