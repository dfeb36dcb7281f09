package texto

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"parley/pkg/conn"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

var kept = relay.Retention{Length: 100_000, Age: time.Minute}

// greeted is a client with what its greeting says.
type greeted struct {
	*client
	id    uuid.UUID
	token string
}

func (f *fixture) greeted(t testing.TB, query string) greeted {
	t.Helper()
	c := f.connect(t, query)
	m := c.next(t)
	if m.Kind != "connection" || m.Data.Resume == "" {
		t.Fatalf("got %+v, want a greeting", m)
	}
	return greeted{c, m.ClientID, m.Data.Resume}
}

// publish has a numbered text sent to a client by nobody in particular, and waits
// until Redis has it.
func (f *fixture) publish(t testing.TB, to uuid.UUID, n int, padding string) {
	t.Helper()
	body := appendText(nil, true, fmt.Appendf(nil, `"%d %s"`, n, padding))
	if _, err := f.broker.Publish(t.Context(), relay.Message{Topic: topicOf(to), From: idOne, Time: time.Now(), Body: body}, kept); err != nil {
		t.Error(err)
	}
}

// takeOver publishes the takeover of another node's connection.
func (f *fixture) takeOver(t testing.TB, id uuid.UUID) {
	t.Helper()
	nonce := newID()
	body := append([]byte{bodyTakeover}, nonce[:]...)
	if _, err := f.broker.Publish(t.Context(), relay.Message{Topic: topicOf(id), From: id.String(), Time: time.Now(), Body: body}, kept); err != nil {
		t.Error(err)
	}
}

// want reads the texts numbered from up to, not including, to.
func (c *client) want(t testing.TB, from, to int) (last uuid.UUID) {
	t.Helper()
	for n := from; n < to; n++ {
		m := c.next(t)
		if m.Kind != "receive" || !strings.HasPrefix(m.Data.Text, fmt.Sprint(n, " ")) {
			t.Fatalf("got %.300v, want number %d", m, n)
		}
		last = m.ID
	}
	return last
}

// wantGap reads the message that tells of a gap, and returns its token.
func (c *client) wantGap(t testing.TB) string {
	t.Helper()
	m := c.next(t)
	if m.Kind != "connection" || m.Data.Recovered == nil || *m.Data.Recovered {
		t.Fatalf("got %+v, want a connection with recovered false", m)
	}
	return m.Data.Resume
}

// wantRecovered reads a greeting.
func (c *client) wantRecovered(t testing.TB, want bool) (token string) {
	t.Helper()
	m := c.next(t)
	if m.Kind != "connection" || m.Data.Recovered == nil || *m.Data.Recovered != want {
		t.Fatalf("got %+v, want a connection with recovered %v", m, want)
	}
	return m.Data.Resume
}

func (c *client) wantClosed(t testing.TB, code websocket.StatusCode) {
	t.Helper()
	got, closed := c.read(t)
	if closed == nil || closed.Code != code {
		t.Fatalf("got %.300s, %v, want close %d", got, closed, code)
	}
}

// What was missed may be far more than is queued for a client at once, and more
// than is read at once: a client that reads as it can is not taken for a slow one.
func TestMuchWasMissed(t *testing.T) {
	const total, size, queue = 3*pageMessages + 7, 1000, 4000
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, Config{Retention: kept, MaxQueueBytes: queue}, conn.Config{MaxQueueBytes: queue})
		a := f.greeted(t, "")
		_ = a.ws.CloseNow()
		for n := range total {
			f.publish(t, a.id, n, strings.Repeat("x", size))
		}
		b := f.connect(t, "?resume="+a.token)
		synctest.Wait()
		b.wantRecovered(t, true)
		b.want(t, 0, total)
		f.publish(t, a.id, total, "")
		b.want(t, total, total+1)
	})
}

// The edges of a page.
func TestPages(t *testing.T) {
	for _, missed := range []int{0, 1, pageMessages - 2, pageMessages - 1, pageMessages, pageMessages + 1} {
		t.Run(fmt.Sprint(missed), func(t *testing.T) {
			f := newFixture(t, false, Config{Retention: kept}, conn.Config{})
			a := f.greeted(t, "")
			_ = a.ws.CloseNow()
			for n := range missed {
				f.publish(t, a.id, n, "")
			}
			b := f.connect(t, "?resume="+a.token)
			b.wantRecovered(t, true)
			b.want(t, 0, missed)
			f.publish(t, a.id, missed, "")
			b.want(t, missed, missed+1)
		})
	}
}

// What comes while the history is read goes out once, behind it; so does what is
// in both.
func TestMessagesWhileCatchingUp(t *testing.T) {
	const early, during, late = 10, 10, 10
	f := newFixture(t, false, Config{Retention: kept}, conn.Config{})
	a := f.greeted(t, "")
	_ = a.ws.CloseNow()
	for n := range early {
		f.publish(t, a.id, n, "")
	}
	f.broker.reading = func(int) {
		for n := range during {
			f.publish(t, a.id, early+n, "")
		}
	}
	b := f.connect(t, "?resume="+a.token)
	b.wantRecovered(t, true)
	b.want(t, 0, early+during)
	for n := range late {
		f.publish(t, a.id, early+during+n, "")
	}
	b.want(t, early+during, early+during+late)
}

// More comes while the client catches up than is held for it: the rest is read
// from the history, without a hole and without an end.
func TestHeldOverflows(t *testing.T) {
	const each, floods = 100, 5
	f := newFixture(t, false, Config{Retention: kept, MaxQueueBytes: each * heldOverhead}, conn.Config{})
	a := f.greeted(t, "")
	_ = a.ws.CloseNow()
	f.broker.reading = func(read int) {
		if read <= floods {
			for n := range each {
				f.publish(t, a.id, (read-1)*each+n, "")
			}
		}
	}
	b := f.connect(t, "?resume="+a.token)
	b.wantRecovered(t, true)
	b.want(t, 0, each*floods)
	f.publish(t, a.id, each*floods, "")
	b.want(t, each*floods, each*floods+1)
	onLoop(<-f.opened, func() {}) // the first one
	s := <-f.opened
	relaytest.Eventually(t, "the session is live", func() bool {
		live := false
		onLoop(s, func() { live = s.catching == nil })
		return live
	})
}

// A session whose own takeover was lost, with all that Redis had, hears of others.
func TestTakeoverIsLost(t *testing.T) {
	f := newFixture(t, false, Config{Retention: kept}, conn.Config{})
	a := f.greeted(t, "")
	_ = a.ws.CloseNow()
	f.broker.set(brokerLoses) // nothing is delivered but what is read
	f.broker.reading = func(int) { f.broker.flush() }
	b := f.connect(t, "?resume="+a.token)
	b.wantRecovered(t, false)
	f.broker.set(brokerWorks)
	f.publish(t, a.id, 0, "")
	b.want(t, 0, 1)
	f.takeOver(t, a.id)
	b.wantClosed(t, conn.CodeTakenOver)
}

// After a gap a session is in another history: its next token counts there.
func TestTokenAfterGap(t *testing.T) {
	f := newFixture(t, false, Config{Retention: kept}, conn.Config{})
	a := f.greeted(t, "")
	_ = a.ws.CloseNow()
	f.broker.flush()
	b := f.connect(t, "?resume="+a.token)
	b.wantRecovered(t, false)
	b.send(t, websocket.MessageText, `{"id":"`+idTwo+`","kind":"registration"}`)
	token := b.wantRecovered(t, false)
	_ = b.ws.CloseNow()
	f.publish(t, a.id, 0, "")
	c := f.connect(t, "?resume="+token)
	c.wantRecovered(t, true)
	c.want(t, 0, 1)
}

// A client comes back again and again while others write to it. It misses nothing,
// and everything is in order; what comes twice has one id.
func TestResumeUnderTraffic(t *testing.T) {
	const total, rounds = 2000, 20
	f := newFixture(t, false, Config{Retention: kept}, conn.Config{})
	a := f.greeted(t, "")
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := range total {
			f.publish(t, a.id, n, "")
		}
	})
	var got []string
	seen := map[uuid.UUID]bool{}
	var last uuid.UUID
	c, token, again := a.client, a.token, 0
	for round := 0; len(got) < total; {
		m := c.next(t)
		switch {
		case m.Kind == "connection":
			if m.Data.Recovered == nil || !*m.Data.Recovered || m.ClientID != a.id {
				t.Fatalf("got %+v", m)
			}
			token = m.Data.Resume
		case m.Kind != "receive":
			t.Fatalf("got %+v", m)
		case seen[m.ID]:
			again++
		default:
			seen[m.ID], last = true, m.ID
			got = append(got, strings.TrimSpace(m.Data.Text))
			if len(got) > round*total/rounds {
				round++
				switch query := "?resume=" + token; round % 3 {
				case 0: // without a word
					_ = c.ws.CloseNow()
					c = f.connect(t, query+"&last="+last.String())
				case 1: // while the connection before is still there
					c = f.connect(t, query+"&last="+last.String())
				case 2: // naming nothing
					_ = c.ws.CloseNow()
					c = f.connect(t, query)
				}
			}
		}
	}
	wg.Wait()
	for n, text := range got {
		if text != fmt.Sprint(n) {
			t.Fatalf("message %d is %q", n, text)
		}
	}
	t.Logf("%d messages, %d of them again", total, again)
}

// Of many connections that resume one session at once, one has it in the end, and
// all others are told so.
func TestTakeoverRace(t *testing.T) {
	for name, cfg := range map[string]Config{"kept": {Retention: kept}, "unkept": {}} {
		t.Run(name, func(t *testing.T) {
			const rivals = 20
			f := newFixture(t, false, cfg, conn.Config{})
			a := f.greeted(t, "")
			all := make([]*client, rivals)
			var wg sync.WaitGroup
			for i := range all {
				wg.Go(func() { all[i] = f.connect(t, "?resume="+a.token) })
			}
			wg.Wait()
			a.wantClosed(t, conn.CodeTakenOver)
			var losers sync.WaitGroup
			lost := make(chan *client, rivals)
			for _, c := range all {
				losers.Go(func() {
					for {
						text, closed := c.read(t)
						if closed != nil {
							if closed.Code != conn.CodeTakenOver {
								t.Errorf("closed with %v", closed)
							}
							lost <- c
							return
						}
						if strings.Contains(text, "the winner") {
							return
						}
					}
				})
			}
			for range rivals - 1 {
				<-lost
			}
			body := appendText(nil, cfg.Retention.Kept(), []byte(`"the winner"`))
			if _, err := f.broker.Publish(t.Context(), relay.Message{Topic: topicOf(a.id), From: idOne, Time: time.Now(), Body: body}, cfg.Retention); err != nil {
				t.Error(err)
			}
			losers.Wait() // the winner has got it
			if len(lost) != 0 || f.hub.Len() != 1 {
				t.Errorf("%d more closed, %d topics", len(lost), f.hub.Len())
			}
		})
	}
}

// Takeovers in the history that are older than a session's own concern others; one
// that is newer ends it, at that place in the stream.
func TestTakeoversInTheHistory(t *testing.T) {
	f := newFixture(t, false, Config{Retention: kept}, conn.Config{})
	a := f.greeted(t, "")
	_ = a.ws.CloseNow()
	f.publish(t, a.id, 0, "")
	f.takeOver(t, a.id)
	f.publish(t, a.id, 1, "")
	b := f.connect(t, "?resume="+a.token)
	b.wantRecovered(t, true)
	b.want(t, 0, 2)
	f.broker.reading = func(int) {
		f.takeOver(t, a.id) // after the session's own
		f.publish(t, a.id, 2, "")
	}
	c := f.connect(t, "?resume="+a.token)
	c.wantRecovered(t, true)
	c.want(t, 0, 2)
	c.wantClosed(t, conn.CodeTakenOver)
	b.wantClosed(t, conn.CodeTakenOver)
}

// A session that lives on another node is taken over through the topic, and shows
// nothing of what comes after that.
func TestTakenOverFromElsewhere(t *testing.T) {
	f := newFixture(t, false, Config{Retention: kept}, conn.Config{})
	a := f.greeted(t, "")
	f.publish(t, a.id, 0, "")
	f.takeOver(t, a.id)
	f.publish(t, a.id, 1, "")
	a.want(t, 0, 1)
	a.wantClosed(t, conn.CodeTakenOver)
}

// Gaps that come while a session catches up are told behind what the history had,
// unless that covers them.
func TestGapWhileCatchingUp(t *testing.T) {
	f := newFixture(t, false, Config{Retention: kept}, conn.Config{})
	a := f.greeted(t, "")
	_ = a.ws.CloseNow()
	f.publish(t, a.id, 0, "")
	topic := topicOf(a.id)
	f.broker.reading = func(read int) {
		switch read {
		case 1: // up to what is there, of this history: the page has it
			f.broker.gap(topic)
		case 2: // of a place that nobody knows
			f.hub.Gap(topic, relay.Position{})
		case 3:
			f.hub.Gap(topic, relay.Position{Epoch: 1, ID: relay.ID{Millis: 1 << 47}})
		}
	}
	b := f.connect(t, "?resume="+a.token)
	b.wantRecovered(t, true)
	b.want(t, 0, 1)
	f.publish(t, a.id, 1, "")
	b.want(t, 1, 2)
	for range 2 {
		c := f.connect(t, "?resume="+a.token)
		c.wantRecovered(t, true)
		c.want(t, 0, 2)
		c.wantGap(t)
	}
}

// When Redis loses what it has while a session catches up, the client is told at
// that place, and what the new history has comes, though its places are older.
func TestHistoryLostWhileCatchingUp(t *testing.T) {
	f := newFixture(t, false, Config{Retention: kept}, conn.Config{})
	a := f.greeted(t, "")
	_ = a.ws.CloseNow()
	for n := range pageMessages {
		f.publish(t, a.id, n, "")
	}
	f.broker.reading = func(read int) {
		if read == 2 {
			f.broker.flush()
			f.publish(t, a.id, pageMessages, "")
		}
	}
	b := f.connect(t, "?resume="+a.token)
	b.wantRecovered(t, true)
	b.want(t, 0, pageMessages)
	token := b.wantGap(t)
	b.want(t, pageMessages, pageMessages+1)
	_ = b.ws.CloseNow()
	// The token that came with the gap is of the place before it.
	c := f.connect(t, "?resume="+token)
	c.wantRecovered(t, false)
	c.want(t, pageMessages, pageMessages+1)
}

// Redis fails at each step of resuming. The client hears EBROKER within the time
// of that step, nothing stays behind, and its token is as good as before.
func TestRedisFailsWhileResuming(t *testing.T) {
	for _, c := range []struct {
		name   string
		before brokerState
		later  brokerState // at the first reading of the history
		cfg    Config
	}{
		{"refuses at once", brokerFails, brokerFails, Config{Retention: kept}},
		{"does not answer", brokerHangs, brokerHangs, Config{Retention: kept}},
		{"takes no takeover", brokerStalls, brokerStalls, Config{Retention: kept}},
		{"does not deliver the takeover", brokerLoses, brokerLoses, Config{}},
		{"fails at the history", brokerWorks, brokerFails, Config{Retention: kept}},
		{"hangs at the history", brokerWorks, brokerHangs, Config{Retention: kept}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, true, c.cfg, conn.Config{})
				a := f.greeted(t, "")
				_ = a.ws.CloseNow()
				f.broker.set(c.before)
				f.broker.reading = func(int) { f.broker.set(c.later) }
				began := time.Now()
				b := f.connect(t, "?resume="+a.token)
				if m := b.next(t); m.Kind != "error" || m.Data.Code != codeBroker || m.ClientID != a.id {
					t.Fatalf("got %+v, want %s", m, codeBroker)
				}
				b.wantClosed(t, conn.CodeTryLater)
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("told after %s", took)
				}
				synctest.Wait()
				if f.hub.Len() != 0 || f.broker.subscribed() != 0 || len(f.server.resuming) != 0 {
					t.Errorf("%d topics, %d subscriptions, %d places of the queue are left", f.hub.Len(), f.broker.subscribed(), len(f.server.resuming))
				}
				f.broker.reading = nil
				f.broker.set(brokerWorks)
				back := f.connect(t, "?resume="+a.token)
				back.wantRecovered(t, c.cfg.Retention.Kept())
			})
		})
	}
}

// Only so many sessions ask Redis at once. Whoever does not get its turn in time is
// told to come again.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, Config{Retention: kept}, conn.Config{})
		a := f.greeted(t, "")
		for range maxResuming - 1 {
			f.server.resuming <- struct{}{}
		}
		b := f.connect(t, "?resume="+a.token)
		b.wantRecovered(t, true)
		f.server.resuming <- struct{}{}
		began := time.Now()
		c := f.connect(t, "?resume="+a.token)
		if m := c.next(t); m.Data.Code != codeBroker {
			t.Errorf("got %+v", m)
		}
		c.wantClosed(t, conn.CodeTryLater)
		if took := time.Since(began); took != turnTimeout {
			t.Errorf("told after %s, want %s", took, turnTimeout)
		}
		d := f.connect(t, "?resume="+a.token)
		synctest.Wait()
		<-f.server.resuming
		d.wantRecovered(t, true)
	})
}

// A client that takes nothing of what it has missed is given up, and with it all
// that it held.
func TestStalledWhileCatchingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, Config{Retention: kept}, conn.Config{MaxQueueBytes: 1 << 20})
		a := f.greeted(t, "")
		_ = a.ws.CloseNow()
		for n := range 3 * pageMessages {
			f.publish(t, a.id, n, strings.Repeat("x", 1000))
		}
		b := f.connect(t, "?resume="+a.token)
		b.wantRecovered(t, true)
		b.want(t, 0, 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		if f.group.Len() != 0 || f.hub.Len() != 0 {
			t.Errorf("%d connections and %d topics are left", f.group.Len(), f.hub.Len())
		}
	})
}

// A node that is drained does not wait for clients that catch up.
func TestDrainWhileCatchingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, Config{Retention: kept}, conn.Config{MaxQueueBytes: 1 << 20})
		a := f.greeted(t, "")
		_ = a.ws.CloseNow()
		for n := range 3 * pageMessages {
			f.publish(t, a.id, n, strings.Repeat("x", 1000))
		}
		b := f.connect(t, "?resume="+a.token)
		b.wantRecovered(t, true)
		last := b.want(t, 0, 10)
		f.group.Refuse()
		go f.group.Drain(t.Context(), 0)
		n := 10
		for {
			text, closed := b.read(t)
			if closed != nil {
				if closed.Code != conn.CodeRestart {
					t.Errorf("closed with %v", closed)
				}
				break
			}
			if !strings.Contains(text, fmt.Sprintf(`"text":"%d `, n)) {
				t.Fatalf("got %.200s, want number %d", text, n)
			}
			n++
		}
		if n >= 3*pageMessages || last == (uuid.UUID{}) {
			t.Errorf("%d messages came", n)
		}
	})
}

// Tokens are in no log.
func TestLogTellsNoToken(t *testing.T) {
	var log bytes.Buffer
	f := newFixture(t, false, Config{Retention: kept, Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, conn.Config{})
	a := f.greeted(t, "")
	b := f.greeted(t, "?resume="+a.token)
	forged := a.token[:tokenLength-4] + "AAAA"
	c := f.connect(t, "?resume="+forged)
	if m := c.next(t); m.Data.Code != codeResume {
		t.Errorf("got %+v", m)
	}
	f.broker.set(brokerFails)
	d := f.connect(t, "?resume="+b.token)
	d.next(t)
	d.wantClosed(t, conn.CodeTryLater)
	f.group.Close() // nobody logs any more
	for _, token := range []string{a.token, b.token, forged} {
		if strings.Contains(log.String(), token[:40]) {
			t.Errorf("the log tells a token:\n%s", &log)
		}
	}
	if !strings.Contains(log.String(), `"resumed":true`) {
		t.Errorf("the log does not tell of the session that was resumed:\n%s", &log)
	}
}
