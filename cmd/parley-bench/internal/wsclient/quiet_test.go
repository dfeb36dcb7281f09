package wsclient

import (
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/pkg/relaytest"
)

func TestAWatchedConnectionTellsWhetherAllWasHandled(t *testing.T) {
	say := make(chan string)
	target, _ := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		for text := range say {
			_ = ws.Write(r.Context(), websocket.MessageText, []byte(text))
		}
	})
	d := &Dialer{Timeout: 10 * time.Second, Watched: true}
	c, _, err := d.Dial(t.Context(), target, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if c.Quiet() {
		t.Error("quiet, and nobody waits for anything")
	}
	say <- "one"
	read := make(chan string, 1)
	step := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, b, err := c.ReadMessage()
			if err != nil {
				read <- err.Error()
				return
			}
			read <- string(b)
			<-step
		}
	}()
	if got := <-read; got != "one" {
		t.Errorf("read %q", got)
	}
	if c.Quiet() {
		t.Error("quiet while a message is being handled")
	}
	step <- struct{}{}
	relaytest.Eventually(t, "quiet when its reader waits again", c.Quiet)
	say <- "two"
	if got := <-read; got != "two" || c.Quiet() {
		t.Errorf("read %q; quiet %v", got, c.Quiet())
	}
	step <- struct{}{}
	close(say)
	<-read
	if c.Quiet() {
		t.Error("quiet after the end")
	}
	<-done
	c.CloseNow()
	if c.Quiet() {
		t.Error("quiet after it was closed")
	}
	plain, _, err := (&Dialer{Timeout: 10 * time.Second}).Dial(t.Context(), target, nil)
	if err != nil {
		t.Fatal(err)
	}
	plain.CloseNow()
	if !plain.Quiet() {
		t.Error("who is not watched is always quiet")
	}
}

func TestAWatchedConnectionIsOneForAllThat(t *testing.T) {
	target, _ := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		for {
			kind, b, err := ws.Read(r.Context())
			if err != nil {
				return
			}
			_ = ws.Write(r.Context(), kind, b)
		}
	})
	d := &Dialer{Timeout: 10 * time.Second, Watched: true, ReadBuffer: 512}
	c, _, err := d.Dial(t.Context(), target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadBuffer(4096); err != nil {
		t.Error(err)
	}
	long := make([]byte, 20_000)
	for range 3 {
		if err := c.WriteMessage(Binary, long); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.ReadMessage(); err != nil || len(b) != len(long) {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, _, err := c.ReadMessage(); err == nil {
		t.Error("read something after the deadline")
	}
	if err := c.Leave(10 * time.Second); err != nil {
		t.Errorf("leaving: %v", err)
	}
}
