// Package chat is the chat protocol as a client of the load generator speaks it:
// accounts and their sessions over HTTP, connections that are greeted, messages that
// are stamped into a prepared frame, and a parser of what servers send.
package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// Path is where a server speaks chat over WebSocket.
const Path = "/api/ws"

// User is somebody with an account.
type User struct {
	ID       int64  `json:"id"`
	Username string `json:"username"`
}

// Room is a room as the greeting shows it.
type Room struct {
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	Messages json.RawMessage `json:"messages"` // newest first
	More     bool            `json:"hasMoreMessages"`
	// Recovered answers who has named the last message that it knows, see Since.
	Recovered *bool `json:"recovered"`
}

// Since returns the target at which a connection's greeting has, of a room, what came
// after a message.
func Since(t wsclient.Target, room, last string) wsclient.Target {
	separator := "?"
	if strings.Contains(t.Path, "?") {
		separator = "&"
	}
	t.Path += separator + url.Values{"since": {room + ":" + last}}.Encode()
	return t
}

// Session is a connection that has been greeted.
type Session struct {
	*wsclient.Conn
	Me    User
	Rooms []Room
}

// GreetingError is a first message that is no greeting.
type GreetingError struct{ Reason string }

func (e *GreetingError) Error() string { return "greeting: " + e.Reason }

// Open connects with the cookie of a session and waits for the greeting, for the
// dialer's timeout in all or until ctx is done.
func Open(ctx context.Context, d *wsclient.Dialer, t wsclient.Target, local net.IP, cookie string) (*Session, error) {
	if d.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Timeout)
		defer cancel()
	}
	t.Cookie = cookie
	conn, _, err := d.Dial(ctx, t, local)
	if err != nil {
		return nil, err
	}
	s, err := greeted(ctx, conn)
	if err != nil {
		conn.CloseNow()
		return nil, err
	}
	return s, nil
}

func greeted(ctx context.Context, conn *wsclient.Conn) (*Session, error) {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetReadDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	_, frame, err := conn.ReadMessage()
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
	var hello struct {
		Type    string
		Payload struct {
			Me    User
			Rooms []Room
		}
	}
	if err := json.Unmarshal(frame, &hello); err != nil {
		return nil, &GreetingError{Reason: err.Error()}
	}
	switch {
	case hello.Type != "hello":
		return nil, &GreetingError{Reason: fmt.Sprintf("the first message is a %.40q", hello.Type)}
	case hello.Payload.Me.Username == "":
		return nil, &GreetingError{Reason: "it does not tell who we are"}
	case len(hello.Payload.Rooms) == 0:
		return nil, &GreetingError{Reason: "there are no rooms"}
	}
	return &Session{Conn: conn, Me: hello.Payload.Me, Rooms: hello.Payload.Rooms}, nil
}

// Room returns a room of the greeting, nil when the server does not have it.
func (s *Session) Room(id string) *Room {
	for i := range s.Rooms {
		if s.Rooms[i].ID == id {
			return &s.Rooms[i]
		}
	}
	return nil
}

// Send is the prepared frame of one sender's messages. One goroutine owns it.
type Send struct {
	frame *wsclient.Frame
	at    int
	id    [texto.IDLen]byte
}

// NewSend prepares messages to a room whose contents are an id followed by filler,
// which must need no escape in JSON.
func (s *Session) NewSend(room string, filler []byte) *Send {
	quoted, _ := json.Marshal(room) // a string never fails
	b := append([]byte(`{"type":"clientMessages","payload":{"roomId":`), quoted...)
	b = append(b, `,"messages":[{"content":"`...)
	at := len(b)
	b = append(b, make([]byte, texto.IDLen)...)
	b = append(b, filler...)
	b = append(b, `"}]}}`...)
	return &Send{frame: wsclient.NewFrame(wsclient.Text, s.MaskKey(), b), at: at}
}

// Stamp returns the frame of the message with this id, valid until the next Stamp.
func (p *Send) Stamp(id texto.ID) []byte {
	id.Put(&p.id)
	p.frame.Patch(p.at, p.id[:])
	return p.frame.Bytes()
}

// AskHistory asks for what is older than a message of a room.
func (s *Session) AskHistory(room, before string) error {
	b, err := json.Marshal(map[string]any{"type": "requestRoomHistory",
		"payload": map[string]string{"roomId": room, "firstMessageId": before}})
	if err != nil {
		return err
	}
	return s.WriteMessage(wsclient.Text, b)
}
