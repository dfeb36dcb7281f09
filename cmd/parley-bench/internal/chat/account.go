package chat

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"parley/cmd/parley-bench/internal/wsclient"
)

// cookieName is that of the cookie that holds a session.
const cookieName = "sid"

// AccountError is an answer to the wish for an account that is no success.
type AccountError struct {
	Status int
	Code   string // "" when the answer has none
	Reason string
}

func (e *AccountError) Error() string {
	return fmt.Sprintf("making an account: HTTP %d %s: %s", e.Status, e.Code, e.Reason)
}

// SignUp makes an account with a name that nobody has, and returns the cookie of its
// session, for Open. It blocks until the server has answered or ctx is done.
func SignUp(ctx context.Context, t wsclient.Target, config *tls.Config) (cookie string, err error) {
	name := "bench-" + strings.ToLower(rand.Text())
	body, err := json.Marshal(map[string]string{"username": name, "email": name + "@parley.example", "password": rand.Text()})
	if err != nil {
		return "", err
	}
	scheme := "http://"
	if t.Secure {
		scheme = "https://"
	}
	path, _, _ := strings.Cut(t.Path, "?")
	url := scheme + t.Host + strings.TrimSuffix(path, "/ws") + "/create-account"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, t.Addr)
		}}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return "", fmt.Errorf("making an account: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		failed := &AccountError{Status: answer.StatusCode}
		const most = 4 << 10
		text, _ := io.ReadAll(io.LimitReader(answer.Body, most))
		var problem struct{ ID, Message string }
		if json.Unmarshal(text, &problem) == nil {
			failed.Code, failed.Reason = problem.ID, problem.Message
		}
		return "", failed
	}
	for _, c := range answer.Cookies() {
		if c.Name == cookieName && c.Value != "" {
			return cookieName + "=" + c.Value, nil
		}
	}
	return "", &AccountError{Status: answer.StatusCode, Reason: "the answer has no session"}
}
