// Package texto is Texto v1 as a client of the load generator speaks it:
// sessions that are greeted, messages that are stamped into a prepared frame,
// and a parser of what servers send.
package texto

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/wsclient"
)

// Path is where a server speaks Texto v1.
const Path = "/v1/texto"

// Session is a connection that has been greeted.
type Session struct {
	*wsclient.Conn
	ClientID string
	Node     string // as the server names itself, "" when it does not
	Resume   string // the token to come back with, "" where there is none
	// Recovered tells what a session that came back has missed. Refused tells
	// that the server did not take its token, and gave it a fresh client id.
	Recovered Recovered
	Refused   bool
}

// codeResume is the error that comes before the greeting when a token is not
// taken.
const codeResume = "ERESUME"

// Resuming returns the target at which a session is taken up again. last is the
// id of the last message that it has handled, "" for none.
func Resuming(t wsclient.Target, token, last string) wsclient.Target {
	query := url.Values{"resume": {token}}
	if last != "" {
		query.Set("last", last)
	}
	separator := "?"
	if strings.Contains(t.Path, "?") {
		separator = "&"
	}
	t.Path += separator + query.Encode()
	return t
}

// Timing tells how long the steps to a session took.
type Timing struct {
	wsclient.Timing
	Greeting time.Duration // from the upgrade to the greeting
}

// GreetingError is a first message that is no greeting.
type GreetingError struct {
	Code   string // of an error message, or ""
	Reason string
}

func (e *GreetingError) Error() string {
	if e.Code != "" {
		return fmt.Sprintf("greeting: the server says %s: %s", e.Code, e.Reason)
	}
	return "greeting: " + e.Reason
}

// Open connects and waits for the greeting, for the dialer's timeout in all or
// until ctx is done.
func Open(ctx context.Context, d *wsclient.Dialer, t wsclient.Target, local net.IP) (*Session, Timing, error) {
	var timing Timing
	if d.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Timeout)
		defer cancel()
	}
	conn, dialled, err := d.Dial(ctx, t, local)
	timing.Timing = dialled
	if err != nil {
		return nil, timing, err
	}
	start := time.Now()
	s, err := greeted(ctx, conn)
	timing.Greeting = time.Since(start)
	if err != nil {
		conn.CloseNow()
		return nil, timing, err
	}
	return s, timing, nil
}

func greeted(ctx context.Context, conn *wsclient.Conn) (*Session, error) {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetReadDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	_, frame, err := conn.ReadMessage()
	var m Message
	refused := err == nil && Parse(frame, &m) == nil && string(m.Kind) == KindError && string(m.Code) == codeResume
	if refused {
		_, frame, err = conn.ReadMessage()
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.DeadlineExceeded
		if ctx.Err() != nil {
			err = ctx.Err()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("greeting: %w", err)
	}
	_ = conn.SetReadDeadline(time.Time{})
	if err := Parse(frame, &m); err != nil {
		return nil, &GreetingError{Reason: err.Error()}
	}
	switch {
	case string(m.Kind) == KindError:
		return nil, &GreetingError{Code: string(m.Code), Reason: string(m.Description)}
	case string(m.Kind) != KindConnection:
		return nil, &GreetingError{Reason: fmt.Sprintf("the first message is a %.40q", m.Kind)}
	case len(m.Session) != IDLen:
		return nil, &GreetingError{Reason: fmt.Sprintf("%.80q is no client id", m.Session)}
	}
	return &Session{Conn: conn, ClientID: string(m.Session), Node: string(m.Node), Resume: string(m.Resume),
		Recovered: m.Recovered, Refused: refused}, nil
}

// Send is the prepared frame of a stream's messages. One goroutine owns it.
type Send struct {
	frame *wsclient.Frame
	idAt  int
	text  int
	id    [IDLen]byte
}

// NewSend prepares messages from s to a receiver whose texts are an id
// followed by filler, which must need no escape in JSON.
func (s *Session) NewSend(receiver string, filler []byte) *Send {
	blank := make([]byte, IDLen)
	var b []byte
	b = append(b, `{"client_id":"`...)
	b = append(b, s.ClientID...)
	b = append(b, `","id":"`...)
	idAt := len(b)
	b = append(b, blank...)
	b = append(b, `","kind":"`+kindSend+`","data":{"receiver_id":"`...)
	b = append(b, receiver...)
	b = append(b, `","text":"`...)
	text := len(b)
	b = append(b, blank...)
	b = append(b, filler...)
	b = append(b, `"}}`...)
	return &Send{frame: wsclient.NewFrame(wsclient.Text, s.MaskKey(), b), idAt: idAt, text: text}
}

// Stamp returns the frame of the message with this id, valid until the next
// Stamp.
func (p *Send) Stamp(id ID) []byte {
	id.Put(&p.id)
	p.frame.Patch(p.idAt, p.id[:])
	p.frame.Patch(p.text, p.id[:])
	return p.frame.Bytes()
}

// AppendAck appends the acknowledgement of a message that came.
func (s *Session) AppendAck(b []byte, id []byte) []byte {
	b = append(b, `{"client_id":"`...)
	b = append(b, s.ClientID...)
	b = append(b, `","id":"`...)
	b = append(b, id...)
	return append(b, `","kind":"`+KindAck+`","data":null}`...)
}

// AppendRegistration appends the question for a fresh token.
func (s *Session) AppendRegistration(b []byte, id ID) []byte {
	var text [IDLen]byte
	id.Put(&text)
	b = append(b, `{"client_id":"`...)
	b = append(b, s.ClientID...)
	b = append(b, `","id":"`...)
	b = append(b, text[:]...)
	return append(b, `","kind":"`+kindRegistration+`","data":null}`...)
}

// Filler returns n bytes of text that need no escape in JSON.
func Filler(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = "the quick brown fox jumps over the lazy dog "[i%44]
	}
	return b
}
