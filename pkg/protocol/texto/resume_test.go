package texto

import (
	"fmt"
	"slices"
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

// However small the bound of what may be held is, a client gets all and is live.
func TestNothingMayBeHeld(t *testing.T) {
	f := newFixture(t, false, Config{Retention: kept, MaxQueueBytes: 1}, conn.Config{})
	a := f.greeted(t, "")
	_ = a.ws.CloseNow()
	f.publish(t, a.id, 0, "")
	b := f.connect(t, "?resume="+a.token)
	b.wantRecovered(t, true)
	b.want(t, 0, 1)
	f.publish(t, a.id, 1, "")
	b.want(t, 1, 2)
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
	<-f.opened // the first session
	s := <-f.opened
	relaytest.Eventually(t, "the session is live", func() bool {
		live := false
		onLoop(s, func() { live = s.catching == nil })
		return live
	})
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

// A gap of which a session hears while it catches up is told behind what the
// history had, if that was read before; a later reading tells by itself.
func TestGapWhileCatchingUp(t *testing.T) {
	const missed = pageMessages + 1
	f := newFixture(t, false, Config{Retention: kept}, conn.Config{})
	a := f.greeted(t, "")
	_ = a.ws.CloseNow()
	for n := range missed {
		f.publish(t, a.id, n, "")
	}
	topic := topicOf(a.id)
	f.broker.reading = func(read int) {
		if read == 1 { // of two
			f.hub.Gap(topic, relay.Position{})
			f.broker.gap(topic)
		}
	}
	b := f.connect(t, "?resume="+a.token)
	b.wantRecovered(t, true)
	last := b.want(t, 0, missed)
	f.publish(t, a.id, missed, "")
	b.want(t, missed, missed+1)
	f.broker.reading = func(int) {
		f.hub.Gap(topic, relay.Position{})
		f.publish(t, a.id, missed+1, "")
	}
	c := f.connect(t, "?resume="+a.token+"&last="+last.String())
	c.wantRecovered(t, true)
	c.want(t, missed, missed+2)
	c.wantGap(t)
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

// Messages of the history that come from the bus later than the session went live
// are not shown again; newer ones are.
func TestMessagesComeAgainAfterCatchingUp(t *testing.T) {
	f := newFixture(t, false, Config{Retention: kept}, conn.Config{})
	a := f.greeted(t, "")
	_ = a.ws.CloseNow()
	for n := range 5 {
		f.publish(t, a.id, n, "")
	}
	f.broker.set(brokerLoses)
	b := f.connect(t, "?resume="+a.token)
	b.wantRecovered(t, true)
	b.want(t, 0, 5)
	f.broker.mu.Lock()
	late := slices.Clone(f.broker.historyOf(topicOf(a.id)).messages)
	f.broker.mu.Unlock()
	for _, m := range late {
		f.hub.Dispatch(m)
	}
	f.broker.set(brokerWorks)
	f.publish(t, a.id, 5, "")
	b.want(t, 5, 6)
}
