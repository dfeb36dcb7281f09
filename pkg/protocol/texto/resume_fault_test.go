package texto

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"parley/pkg/conn"
)

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
