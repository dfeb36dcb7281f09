package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"parley/pkg/relay"
)

// SessionLife is how long a session lasts, as the Chat protocol has it.
const SessionLife = 7 * 24 * time.Hour

// RevokedTopic is where the end of a session is told: the message's body is the
// session's Key. Whoever serves the session closes it; who has not heard of it learns
// by Standing. Nothing is kept.
const RevokedTopic relay.Topic = "account/revoked"

// tokenBytes is how much of a token is random.
const tokenBytes = 32

// sessionPrefix begins the keys of sessions.
const sessionPrefix = "session/"

// Session is somebody who has proved who he is.
type Session struct {
	Key     string     // names it among all others; nobody gets in with it
	User    relay.User // as it was when the session began
	Expires time.Time
}

// kept is a session as Redis has it. Later versions may add fields.
type kept struct {
	ID       int64  `json:"id"`
	Username string `json:"username"`
	Email    string `json:"email"`
	Opened   int64  `json:"opened"` // ms since the epoch, as is the next
	Expires  int64  `json:"expires"`
}

// keyOf is the key of the session that a token opens. Who reads Redis does not learn
// any token.
func keyOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return sessionPrefix + hex.EncodeToString(sum[:])
}

// isToken tells whether a text has the form of a token.
func isToken(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == tokenBytes && len(s) == base64.RawURLEncoding.EncodedLen(tokenBytes) // the decoder passes over line breaks
}

// Open begins a session of a user who has proved to be one, by whatever means, and
// returns the token that opens it; it is kept nowhere. Errors wrap
// relay.ErrUnavailable.
func (a *Accounts) Open(ctx context.Context, u relay.User) (token string, s Session, err error) {
	b := make([]byte, tokenBytes)
	_, _ = rand.Read(b) // never fails
	token = base64.RawURLEncoding.EncodeToString(b)
	now := time.Now()
	s = Session{Key: keyOf(token), User: u, Expires: now.Add(SessionLife).Truncate(time.Millisecond)}
	value, err := json.Marshal(kept{u.ID, u.Username, u.Email, now.UnixMilli(), s.Expires.UnixMilli()})
	if err != nil {
		return "", Session{}, fmt.Errorf("a session of user %d: %w", u.ID, err)
	}
	if err := a.cfg.Values.Put(ctx, s.Key, value, SessionLife); err != nil {
		return "", Session{}, fmt.Errorf("opening a session: %w", err)
	}
	return token, s, nil
}

// Session returns the session that a token opens: ErrNoSession, or an error that wraps
// relay.ErrUnavailable.
func (a *Accounts) Session(ctx context.Context, token string) (Session, error) {
	if !isToken(token) {
		return Session{}, ErrNoSession
	}
	key := keyOf(token)
	values, err := a.cfg.Values.Get(ctx, key)
	if err != nil {
		return Session{}, fmt.Errorf("looking for a session: %w", err)
	}
	if values[0] == nil {
		return Session{}, ErrNoSession
	}
	var k kept
	if err := json.Unmarshal(values[0], &k); err != nil || k.ID == 0 {
		a.log.Error("a session cannot be read", "session", key, "error", err)
		return Session{}, ErrNoSession
	}
	return Session{key, relay.User{ID: k.ID, Username: k.Username, Email: k.Email}, time.UnixMilli(k.Expires)}, nil
}

// Standing tells which sessions still stand, by their keys and in their order. Errors
// wrap relay.ErrUnavailable, and tell nothing of any.
func (a *Accounts) Standing(ctx context.Context, keys ...string) ([]bool, error) {
	values, err := a.cfg.Values.Get(ctx, keys...)
	if err != nil {
		return nil, fmt.Errorf("looking for sessions: %w", err)
	}
	standing := make([]bool, len(values))
	for i, v := range values {
		standing[i] = v != nil
	}
	return standing, nil
}

// End revokes the session that a token opens, and has it told to all nodes; nothing
// happens when there is none. Errors wrap relay.ErrUnavailable: then it may stand.
func (a *Accounts) End(ctx context.Context, token string) error {
	if !isToken(token) {
		return nil
	}
	key := keyOf(token)
	was, err := a.cfg.Values.Delete(ctx, key)
	if err != nil {
		return fmt.Errorf("ending a session: %w", err)
	}
	if !was {
		return nil
	}
	a.log.Info("signed out", "session", key)
	// The session is gone, whether its client waits for the rest or not.
	if _, err := a.cfg.Publisher.Publish(context.WithoutCancel(ctx), relay.Message{Topic: RevokedTopic, Body: []byte(key)}, relay.Retention{}); err != nil {
		a.log.Warn("the nodes do not hear that a session has ended", "session", key, "error", err)
	}
	return nil
}
