package rooms

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// Path is where a server speaks relay rooms over WebSocket.
const Path = "/v1/websocket"

// Identity is what a client needs to come back.
type Identity struct{ ID, Secret int32 }

// Session is a connection that has its place in a room.
type Session struct {
	*wsclient.Conn
	Identity
}

// Join connects as a new client of a room, for the dialer's timeout in all or until ctx
// is done. What the server refuses is an *Error.
func Join(ctx context.Context, d *wsclient.Dialer, t wsclient.Target, local net.IP, room Room) (*Session, error) {
	return open(ctx, d, t, local, AppendPayload(nil, RequestConnect, appendNumbers(nil, room.ID, room.Secret)))
}

// Rejoin connects as the client that has gone.
func Rejoin(ctx context.Context, d *wsclient.Dialer, t wsclient.Target, local net.IP, room Room, who Identity) (*Session, error) {
	return open(ctx, d, t, local, AppendPayload(nil, RequestReconnect, appendNumbers(nil, room.ID, room.Secret, who.ID, who.Secret)))
}

func open(ctx context.Context, d *wsclient.Dialer, t wsclient.Target, local net.IP, request []byte) (*Session, error) {
	if d.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Timeout)
		defer cancel()
	}
	conn, _, err := d.Dial(ctx, t, local)
	if err != nil {
		return nil, err
	}
	s, err := seated(ctx, conn, request)
	if err != nil {
		conn.CloseNow()
		return nil, err
	}
	return s, nil
}

// seated asks for a place, and waits until it has one.
func seated(ctx context.Context, conn *wsclient.Conn, request []byte) (*Session, error) {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err := conn.WriteMessage(wsclient.Binary, request)
	var frame []byte
	if err == nil {
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
		return nil, fmt.Errorf("joining the room: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})
	p, err := ParsePayload(frame)
	if err != nil {
		return nil, fmt.Errorf("joining the room: %w", err)
	}
	switch p.Flag {
	case ResponseConnect:
		s := &Session{Conn: conn}
		s.ID, s.Secret, err = ParseClient(p.Data)
		return s, err
	case ResponseError:
		e, err := ParseError(p.Data)
		if err == nil {
			err = e
		}
		return nil, err
	}
	return nil, fmt.Errorf("joining the room: the answer is %v", p.Flag)
}

// Request sends a request whose data are at most a few numbers.
func (s *Session) Request(flag Flag, numbers ...int32) error {
	return s.WriteMessage(wsclient.Binary, AppendPayload(nil, flag, appendNumbers(nil, numbers...)))
}

// Send is the prepared frame of one client's relays. One goroutine owns it.
type Send struct {
	frame *wsclient.Frame
	at    int
	id    [texto.IDLen]byte
}

// NewSend prepares relays whose data are an id followed by filler.
func (s *Session) NewSend(to RelayType, filler []byte) *Send {
	data := append(make([]byte, texto.IDLen), filler...)
	b := AppendPayload(nil, RequestRelay, AppendRelay(nil, Relay{Type: to, Data: data}))
	return &Send{frame: wsclient.NewFrame(wsclient.Binary, s.MaskKey(), b), at: len(b) - len(data)}
}

// Stamp returns the frame of the relay with this id, valid until the next Stamp.
func (p *Send) Stamp(id texto.ID) []byte {
	id.Put(&p.id)
	p.frame.Patch(p.at, p.id[:])
	return p.frame.Bytes()
}
