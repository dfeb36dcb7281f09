package rooms

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"parley/cmd/parley-bench/internal/wsclient"
)

// Room is a room as its maker knows it.
type Room struct {
	ID     int32 `json:"id"`
	Secret int32 `json:"secret"`
}

// API makes and ends rooms at one server. Fixed before its first use; then any number
// of goroutines may use it. Its calls block until the server has answered or ctx is
// done.
type API struct {
	Target wsclient.Target // where the server speaks WebSocket; the API is beside it
	Token  string          // "": none
	TLS    *tls.Config     // nil: the default
}

// StatusError is an answer of the API that is no success.
type StatusError struct {
	Status  int
	Message string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the rooms' API answers HTTP %d: %s", e.Status, e.Message)
}

// Create makes a room for so many clients.
func (a *API) Create(ctx context.Context, clients int) (room Room, err error) {
	err = a.call(ctx, http.MethodPost, "", map[string]int{"max_clients": clients}, &room)
	if err == nil && room.ID <= 0 {
		err = fmt.Errorf("the new room has the id %d", room.ID)
	}
	return room, err
}

// Delete ends a room.
func (a *API) Delete(ctx context.Context, room Room) error {
	return a.call(ctx, http.MethodDelete, fmt.Sprintf("/%d", room.ID), nil, nil)
}

func (a *API) call(ctx context.Context, method, path string, body, data any) error {
	var text []byte
	if body != nil {
		text, _ = json.Marshal(body) // a map of numbers never fails
	}
	scheme := "http://"
	if a.Target.Secure {
		scheme = "https://"
	}
	base, _, _ := strings.Cut(a.Target.Path, "?")
	url := scheme + a.Target.Host + strings.TrimSuffix(base, "/websocket") + "/api/rooms" + path
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if a.Token != "" {
		r.Header.Set("Authorization", "Bearer "+a.Token)
	}
	transport := &http.Transport{TLSClientConfig: a.TLS, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, a.Target.Addr)
		}}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("the rooms' API: %w", err)
	}
	defer answer.Body.Close()
	const most = 64 << 10
	text, err = io.ReadAll(io.LimitReader(answer.Body, most))
	if err != nil {
		return fmt.Errorf("the rooms' API: %w", err)
	}
	var envelope struct {
		Code    int
		Message string
		Data    json.RawMessage
	}
	err = json.Unmarshal(text, &envelope)
	switch {
	case answer.StatusCode/100 != 2:
		return &StatusError{Status: answer.StatusCode, Message: envelope.Message}
	case err != nil:
		return fmt.Errorf("the rooms' API: %w", err)
	case envelope.Code != answer.StatusCode:
		return fmt.Errorf("the rooms' API: the answer with HTTP %d says %d", answer.StatusCode, envelope.Code)
	case data != nil:
		return json.Unmarshal(envelope.Data, data)
	}
	return nil
}
