// Package pull is the REST protocol as a client of the load generator speaks it: accounts
// and their sessions, messages that are written and pulled, and the long poll; and crowds
// of such clients that keep account of all that they write and get.
package pull

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/wsclient"
)

// User is an account with a session.
type User struct {
	ID       int64
	Username string
	Token    string
}

// Message is one of a conversation.
type Message struct {
	ID     string `json:"id"`
	Sender int64  `json:"senderId"`
	Text   string `json:"message"`
}

// Notification is a hint that a poll was answered with.
type Notification struct {
	Kind string `json:"notification"`
	From string `json:"from"`
	ID   string `json:"id"`
}

// The kinds of notifications that a Crowd knows.
const (
	KindPrivate = "new_private_message"
	KindGap     = "gap"
)

// Failure is an answer that is no success.
type Failure struct {
	Status int
	Code   string        // "" when the answer has none
	Reason string        // for people
	Wait   time.Duration // what Retry-After asks for
}

func (f *Failure) Error() string {
	return fmt.Sprintf("HTTP %d %s: %s", f.Status, f.Code, f.Reason)
}

// maxBody bounds what is read of an answer: a pull has 8 MiB of messages, and what stands
// around them.
const maxBody = 64 << 20

// Client asks nodes. It may be used by any number of goroutines, and keeps connections to
// the nodes for later requests.
type Client struct{ http *http.Client }

// NewClient returns a client that keeps up to so many idle connections to each node.
func NewClient(config *tls.Config, idle int) *Client {
	return &Client{&http.Client{Transport: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: idle, DisableCompression: true}}}
}

// Close ends the connections that nobody uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Base is where a target's REST endpoints are: a URL without a path.
func Base(t wsclient.Target) string {
	if t.Secure {
		return "https://" + t.Host
	}
	return "http://" + t.Host
}

// keyHeader names a request that may be repeated.
const keyHeader = "Idempotency-Key"

// ask sends a request and reads the answer into the value that into points to, if it is
// not nil. Without an answer of success the error is a *Failure, or what the connection
// ended with. Key is the request's own, "" for none.
func (c *Client) ask(ctx context.Context, method, address, token, key string, body, into any) error {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	} else {
		// With a body, though it is empty, the library does not repeat a GET by itself when
		// a connection has ended: one that takes something must not be sent twice unseen.
		r.Body = io.NopCloser(strings.NewReader(""))
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if key != "" {
		r.Header.Set(keyHeader, key)
	}
	w, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer w.Body.Close()
	text, err := io.ReadAll(io.LimitReader(w.Body, maxBody))
	if err != nil {
		return err
	}
	if w.StatusCode >= http.StatusMultipleChoices {
		f := &Failure{Status: w.StatusCode}
		var told struct {
			Error struct{ Code, Message string }
		}
		if json.Unmarshal(text, &told) == nil {
			f.Code, f.Reason = told.Error.Code, told.Error.Message
		}
		if seconds, err := strconv.Atoi(w.Header.Get("Retry-After")); err == nil {
			f.Wait = time.Duration(seconds) * time.Second
		}
		return f
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s %s: the answer is malformed: %w: %.100q", method, address, err, text)
	}
	return nil
}

// SignUp makes an account with a name that nobody has, and signs in.
func (c *Client) SignUp(ctx context.Context, base string) (User, error) {
	name, password := "bench-"+strings.ToLower(rand.Text()), rand.Text()
	email := name + "@parley.example"
	made := map[string]string{"username": name, "email": email, "password": password}
	if err := c.ask(ctx, http.MethodPost, base+"/Users", "", "", made, nil); err != nil {
		return User{}, fmt.Errorf("making an account: %w", err)
	}
	var got struct {
		Token string
		User  struct {
			ID       int64
			Username string
		}
	}
	if err := c.ask(ctx, http.MethodPost, base+"/auth/token", "", "", map[string]string{"email": email, "password": password}, &got); err != nil {
		return User{}, fmt.Errorf("signing in: %w", err)
	}
	return User{ID: got.User.ID, Username: got.User.Username, Token: got.Token}, nil
}

// Write sends a private message and returns its id.
func (c *Client) Write(ctx context.Context, base string, from User, to int64, text string) (id string, err error) {
	var got struct{ ID string }
	err = c.ask(ctx, http.MethodPost, fmt.Sprintf("%s/Users/%d", base, to), from.Token, "", map[string]string{"name": from.Username, "message": text}, &got)
	return got.ID, err
}

// conversation is an answer with messages.
type conversation struct {
	Messages []Message
	HasMore  bool
}

// Pull takes what a sender has written since the last pull, oldest first. A pull that is
// repeated with its key returns the same again; with "" it has none.
func (c *Client) Pull(ctx context.Context, base string, u User, sender int64, key string) (all []Message, more bool, err error) {
	var got conversation
	err = c.ask(ctx, http.MethodGet, fmt.Sprintf("%s/Users/%d/conversation?sender=%d", base, u.ID, sender), u.Token, key, nil, &got)
	return got.Messages, got.HasMore, err
}

// Page returns a page of the history with another user, newest first.
func (c *Client) Page(ctx context.Context, base string, u User, other int64, index int) (all []Message, more bool, err error) {
	var got conversation
	err = c.ask(ctx, http.MethodGet, fmt.Sprintf("%s/Users/%d/conversation?sender=%d&Index=%d", base, u.ID, other, index), u.Token, "", nil, &got)
	return got.Messages, got.HasMore, err
}

// Poll waits for notifications, up to so many. After is the id of the last one that the
// user has processed, "" to leave that to the fleet.
func (c *Client) Poll(ctx context.Context, base string, u User, wait time.Duration, most int, after string) ([]Notification, error) {
	var got struct{ Notifications []Notification }
	err := c.ask(ctx, http.MethodGet, base+PollPath(wait, most, after), u.Token, "", nil, &got)
	return got.Notifications, err
}

// PollPath is the path and query of a poll.
func PollPath(wait time.Duration, most int, after string) string {
	q := url.Values{"timeout": {strconv.FormatFloat(wait.Seconds(), 'f', -1, 64)}}
	if most > 0 {
		q.Set("max", strconv.Itoa(most))
	}
	if after != "" {
		q.Set("after", after)
	}
	return "/me?" + q.Encode()
}
