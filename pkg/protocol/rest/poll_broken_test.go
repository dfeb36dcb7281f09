package rest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"parley/pkg/account"
	"parley/pkg/relay"
)

// A poll whose body cannot be read to its end does not have the rest taken for a request.
func TestBrokenBody(t *testing.T) {
	f := newFleet(t, options{})
	n, bobby := f.nodes[0], f.users["bobby"]
	for name, body := range map[string]string{
		"a bad chunk":   "Transfer-Encoding: chunked\r\n\r\nZZ\r\nGET /Users/me HTTP/1.1\r\nHost: x\r\n\r\n",
		"a chunk short": "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
	} {
		nc, err := net.Dial("tcp", n.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(nc, "GET /me?timeout=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s", bobby.token, body)
		all, err := io.ReadAll(nc) // to the end of the connection
		if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 400 ") || strings.Count(string(all), "HTTP/1.1") != 1 {
			t.Errorf("%s: answered with %q (%v)", name, all, err)
		}
	}
	long := n.ask(bobby.token, "GET", "/me?timeout=0", strings.Repeat(" ", maxDrained+1))
	long.expect(http.StatusRequestEntityTooLarge, "")
	n.ask(bobby.token, "GET", "/me?timeout=0", strings.Repeat(" ", maxDrained)).expect(http.StatusOK, "{}")
}

// heldInbox holds offers until it may go on.
type heldInbox struct {
	relay.Inbox
	held chan struct{} // an offer is made
	go_  chan struct{}
}

func (h *heldInbox) Offer(c ctx, t relay.Topic, reader string, p relay.Position) error {
	h.held <- struct{}{}
	<-h.go_
	return h.Inbox.Offer(c, t, reader, p)
}

// A client that goes while it is answered has not got the answer, though it could be
// written.
func TestGoneWhileAnswered(t *testing.T) {
	var inbox *heldInbox
	f := newFleet(t, options{deps: func(_ int, d *Deps) {
		inbox = &heldInbox{d.Inbox, make(chan struct{}), make(chan struct{})}
		d.Inbox = inbox
	}})
	n, bobby := f.nodes[0], f.users["bobby"]
	nc, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(nc, "GET /me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", bobby.token)
	n.parked(1)
	f.write(n, "alice", "bobby", "hello")
	<-inbox.held
	nc.Close()
	close(inbox.go_)
	if all := n.ask(bobby.token, "GET", "/me?max=5", "").get().list(t); len(all) != 1 || all[0].Kind != newPrivateMessage {
		t.Errorf("given again: %v", all)
	}
}

// expiring has every session end at a moment.
type expiring struct {
	Accounts
	at time.Time
}

func (e expiring) Session(c ctx, token string) (account.Session, error) {
	s, err := e.Accounts.Session(c, token)
	s.Expires = e.at
	return s, err
}

// A poll does not wait for longer than its session lasts.
func TestSessionExpires(t *testing.T) {
	f := newFleet(t, options{deps: func(_ int, d *Deps) { d.Accounts = expiring{d.Accounts, time.Now().Add(time.Second)} }})
	f.nodes[0].ask(f.users["bobby"].token, "GET", "/me", "").expect(http.StatusUnauthorized, "")
}
