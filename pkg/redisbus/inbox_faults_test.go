package redisbus_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/redisbus"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// letters is a topic between nodes of a test, and its readers.
type letters struct {
	relay.Topic
	*relaytest.InboxNode
}

func newLetters(t *testing.T, o redisbus.Options) *letters {
	t.Helper()
	return &letters{relay.UserTopic(1), inboxNode(t, o)}
}

// send publishes messages, as often as it takes.
func (l *letters) send(t *testing.T, bodies ...string) (last relay.ID) {
	t.Helper()
	for _, body := range bodies {
		relaytest.Eventually(t, "a message is accepted", func() bool {
			var err error
			last, err = l.Publish(t.Context(), relay.Message{Topic: l.Topic, Body: []byte(body)}, relaytest.InboxRetention)
			return err == nil
		})
	}
	return last
}

// get collects, as often as it takes, with what others have not settled.
func (l *letters) get(t *testing.T, r relay.Reading) (c relay.Collected) {
	t.Helper()
	r.Insist = true
	relaytest.Eventually(t, "the inbox answers", func() bool {
		var err error
		c, err = l.Collect(t.Context(), l.Topic, r, 100)
		return err == nil
	})
	return c
}

// expect checks what a reader gets, and that it is told that something is missing, or not.
func (l *letters) expect(t *testing.T, c relay.Collected, complete bool, bodies ...string) {
	t.Helper()
	var got []string
	for _, m := range c.Messages {
		got = append(got, string(m.Body))
	}
	if c.Complete != complete || c.Unsettled || !slices.Equal(got, bodies) {
		t.Errorf("collected %q, complete: %v, unsettled: %v; want %q, complete: %v", got, c.Complete, c.Unsettled, bodies, complete)
	}
}

func (l *letters) settle(t *testing.T, reader string, p relay.Position) {
	t.Helper()
	relaytest.Eventually(t, "the inbox takes note", func() bool { return l.Settle(t.Context(), l.Topic, reader, p, true) == nil })
}

// takes has a reader take messages.
func (l *letters) takes(t *testing.T, reader string, complete bool, bodies ...string) {
	t.Helper()
	c := l.get(t, relay.Reading{Reader: reader})
	l.expect(t, c, complete, bodies...)
	l.settle(t, reader, c.End)
}

// alone has a reader be told, in an answer of its own, that something is missing, and take
// messages then.
func (l *letters) alone(t *testing.T, reader string, bodies ...string) {
	t.Helper()
	c := l.get(t, relay.Reading{Reader: reader})
	l.expect(t, c, false, bodies...)
	l.settle(t, reader, relay.Position{Epoch: c.End.Epoch, ID: c.Before})
	l.takes(t, reader, true, bodies...)
}

func place(reader string, id relay.ID) relay.Reading {
	return relay.Reading{Reader: reader, After: &id}
}

// Whatever state Redis is in, a call answers in time, and works again when Redis does.
func TestInboxWithoutRedis(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	l := newLetters(t, redisbus.Options{URL: r.URL()})
	l.send(t, "0")
	calls := map[string]func(context.Context) error{
		"Collect": func(ctx context.Context) error {
			_, err := l.Collect(ctx, l.Topic, relay.Reading{Reader: "r", Insist: true}, 10)
			return err
		},
		"Offer": func(ctx context.Context) error {
			return l.Offer(ctx, l.Topic, "r", relay.Position{ID: relay.ID{Millis: 1}})
		},
		"Settle": func(ctx context.Context) error { return l.Settle(ctx, l.Topic, "r", relay.Position{}, true) },
	}
	fail := func(state string) {
		t.Helper()
		var wg sync.WaitGroup
		for name, call := range calls {
			wg.Go(func() {
				began := time.Now()
				if err := call(t.Context()); !errors.Is(err, relay.ErrUnavailable) {
					t.Errorf("%s while redis is %s: error = %v, want %v", name, state, err, relay.ErrUnavailable)
				}
				// The promise is two seconds, on a machine that has nothing else to do.
				if took := time.Since(began); took > 2*time.Second+relaytest.Patience/10 {
					t.Errorf("%s while redis is %s took %v", name, state, took)
				}
			})
		}
		wg.Wait()
	}
	work := func(state string) {
		t.Helper()
		for name, call := range calls {
			if err := call(t.Context()); err != nil {
				t.Errorf("%s when redis is %s: %v", name, state, err)
			}
		}
	}
	work("there")
	r.Stop(t)
	fail("stopped")
	r.Cont(t)
	relaytest.Eventually(t, "redis is back", func() bool { return calls["Collect"](t.Context()) == nil })
	r.Kill()
	fail("dead")
	r.Restart(t)
	work("restarted, and connections are those from before")
	if err := r.Client().ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	work("without scripts")
	if err := r.Client().ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	delete(calls, "Collect") // has nothing to write
	fail("full")
	if err := r.Client().ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	work("not full any more")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls {
		if err := call(ctx); !errors.Is(err, relay.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s when nobody waits: error = %v", name, err)
		}
	}
}

// A bus that has ended says so at once.
func TestInboxAfterTheEnd(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	b := openWith(t, redisbus.Options{URL: r.URL()})
	i := b.Inbox(time.Hour)
	collect := func() error {
		_, err := i.Collect(t.Context(), relay.UserTopic(1), relay.Reading{Reader: "r"}, 1)
		return err
	}
	if err := collect(); err != nil {
		t.Errorf("before Run: %v", err)
	}
	_, end := relaytest.Run(t, b)
	end()
	if err := collect(); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("after Run: error = %v, want %v", err, relay.ErrUnavailable)
	}
}

// A key of another kind is an error, at once; a value that is not as it should be, a head
// that is none: as if they were not there.
func TestInboxOfAnotherKind(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	l := newLetters(t, redisbus.Options{URL: r.URL()})
	l.send(t, "0")
	l.takes(t, "r", true, "0")
	key := "parley:i:" + string(l.Topic)
	for field, value := range map[string]string{"r:r": "x", "topic": "1 2 3"} {
		if err := r.Client().HSet(t.Context(), key, field, value).Err(); err != nil {
			t.Fatal(err)
		}
		l.takes(t, "r", true, "0")
	}
	if err := r.Client().Set(t.Context(), "parley:h:"+string(l.Topic), "head", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	l.takes(t, "r", true)
	l.send(t, "1") // comes after nobody knows what: it cannot be read
	l.takes(t, "r", false)
	l.send(t, "2")
	l.takes(t, "r", true, "2")
	if err := r.Client().Del(t.Context(), key).Err(); err != nil {
		t.Fatal(err)
	}
	if err := r.Client().SAdd(t.Context(), key, "x").Err(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := l.Collect(t.Context(), l.Topic, relay.Reading{Reader: "r"}, 1); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("error = %v, want %v", err, relay.ErrUnavailable)
	}
	if err := l.Settle(t.Context(), l.Topic, "r", relay.Position{}, true); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("error = %v, want %v", err, relay.ErrUnavailable)
	}
	t.Logf("refused after %v", time.Since(began))
}

// Readers expire some time after the last call, and calls that change nothing write
// nothing.
func TestInboxCostsLittle(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	l := newLetters(t, redisbus.Options{URL: r.URL()})
	last := l.send(t, "0")
	l.takes(t, "r", true, "0")
	for range 2 {
		l.expect(t, l.get(t, relay.Reading{Reader: "r"}), true)
		l.expect(t, l.get(t, place("p", last)), true)
	}
	writes := commandCalls(t, r.Client(), "hset")
	for range 50 {
		l.expect(t, l.get(t, relay.Reading{Reader: "r"}), true)
		l.expect(t, l.get(t, place("p", last)), true)
	}
	if now := commandCalls(t, r.Client(), "hset"); now != writes || now == 0 {
		t.Errorf("%d writes, %d later; want none more", writes, now)
	}
	const keep = time.Hour // InboxRetention
	if left, err := r.Client().PTTL(t.Context(), "parley:i:"+string(l.Topic)).Result(); err != nil || left < keep || left > 2*keep {
		t.Errorf("the readers expire in %v (%v), want %v or somewhat more", left, err, keep)
	}
}

// deaf is a network that loses the answers to some commands: it closes the connection when
// one comes.
type deaf struct {
	word string
	lose atomic.Int32 // so many answers, to commands that have the word
	lost atomic.Int32
}

type deafConn struct {
	net.Conn
	*deaf
	closes atomic.Bool
}

func (d *deaf) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &deafConn{Conn: c, deaf: d}, nil
}

func (c *deafConn) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(c.word)) && c.lose.Add(-1) >= 0 {
		c.closes.Store(true)
	}
	return c.Conn.Write(p)
}

func (c *deafConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && c.closes.Load() {
		c.lost.Add(1)
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// An answer of Redis is lost: the call is repeated and does not wait for itself; what it
// was to do is done once.
func TestInboxLostAnswers(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	for _, word := range []string{"collect", "offer", "settle"} {
		d := &deaf{word: "\r\n" + word + "\r\n"}
		l := newLetters(t, redisbus.Options{URL: r.URL()}.WithDial(d.dial))
		l.Topic = relay.Topic(relay.UserTopics + word)
		collect := func(want ...string) relay.Collected {
			t.Helper()
			d.lose.Store(2)
			c, err := l.Collect(t.Context(), l.Topic, relay.Reading{Reader: "r"}, 10)
			if err != nil {
				t.Fatalf("%s: %v", word, err)
			}
			l.expect(t, c, true, want...)
			return c
		}
		settle := func(p relay.Position, written bool) {
			t.Helper()
			d.lose.Store(2)
			if err := l.Settle(t.Context(), l.Topic, "r", p, written); err != nil {
				t.Fatalf("%s: %v", word, err)
			}
		}
		l.send(t, "0") // so that the first is an answer to a reader that is not known
		settle(collect("0").End, false)
		settle(collect("0").End, true)
		end := collect().End
		end.ID = l.send(t, "1")
		d.lose.Store(2)
		if err := l.Offer(t.Context(), l.Topic, "r", end); err != nil {
			t.Fatalf("%s: %v", word, err)
		}
		if c, err := l.Collect(t.Context(), l.Topic, relay.Reading{Reader: "r"}, 10); err != nil || !c.Unsettled {
			t.Errorf("%s: %v, %v", word, c, err)
		}
		settle(end, true)
		collect()
		if lost := d.lost.Load(); lost < 2 {
			t.Errorf("%d answers to %s were lost", lost, word)
		}
	}
}
