package texto

import (
	"strings"
	"sync"
	"testing"
	"time"

	"parley/pkg/conn"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

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

// A client that gave up waiting, and has its session elsewhere by now, does not
// lose it to the connection that it gave up.
func TestNobodyTakesOverForTheGone(t *testing.T) {
	f := newFixture(t, false, Config{Retention: kept}, conn.Config{})
	a := f.greeted(t, "")
	for range maxResuming {
		f.server.resuming <- struct{}{}
	}
	b := f.connect(t, "?resume="+a.token)
	_ = b.nc.Close()
	<-f.server.resuming
	relaytest.Eventually(t, "the node has let it go", func() bool { return f.group.Len() == 1 })
	f.publish(t, a.id, 0, "")
	a.want(t, 0, 1)
	if n := len(f.server.resuming); n != maxResuming-1 {
		t.Errorf("%d places are taken, want %d", n, maxResuming-1)
	}
}
