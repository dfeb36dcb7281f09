package accounttest

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"parley/pkg/relay"
)

// fault is an error that all calls answer with while it is set.
type fault struct {
	mu  sync.Mutex
	err error
}

// Fail has every call from now on end in an error; nil has them work again.
func (f *fault) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// failure is why a call fails; nil when it does not.
func (f *fault) failure(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); f.err == nil && err != nil {
		return fmt.Errorf("%w: %w", relay.ErrUnavailable, err)
	}
	return f.err
}

// Users are relay.Users. The zero value has none.
type Users struct {
	fault
	mu  sync.Mutex
	all []entry
}

type entry struct {
	user     relay.User
	email    string // in lower case
	password string
}

var _ relay.Users = (*Users)(nil)

// Create implements relay.Users.
func (u *Users) Create(ctx context.Context, user relay.User, password string) (relay.User, error) {
	if err := u.failure(ctx); err != nil {
		return relay.User{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	usernameTaken, emailTaken := u.taken(user.Username, user.Email)
	switch {
	case emailTaken:
		return relay.User{}, relay.ErrEmailTaken
	case usernameTaken:
		return relay.User{}, relay.ErrUsernameTaken
	}
	user.ID = int64(len(u.all) + 1)
	u.all = append(u.all, entry{user, strings.ToLower(user.Email), password})
	return user, nil
}

// ByEmail implements relay.Users.
func (u *Users) ByEmail(ctx context.Context, email string) (relay.User, string, error) {
	email = strings.ToLower(email)
	return u.find(ctx, func(e entry) bool { return e.email == email })
}

// ByID implements relay.Users.
func (u *Users) ByID(ctx context.Context, id int64) (relay.User, error) {
	user, _, err := u.find(ctx, func(e entry) bool { return e.user.ID == id })
	return user, err
}

// Taken implements relay.Users.
func (u *Users) Taken(ctx context.Context, username, email string) (usernameTaken, emailTaken bool, err error) {
	if err := u.failure(ctx); err != nil {
		return false, false, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	usernameTaken, emailTaken = u.taken(username, email)
	return usernameTaken, emailTaken, nil
}

func (u *Users) find(ctx context.Context, is func(entry) bool) (relay.User, string, error) {
	if err := u.failure(ctx); err != nil {
		return relay.User{}, "", err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, e := range u.all {
		if is(e) {
			return e.user, e.password, nil
		}
	}
	return relay.User{}, "", relay.ErrNoUser
}

// taken is called with mu held.
func (u *Users) taken(username, email string) (usernameTaken, emailTaken bool) {
	email = strings.ToLower(email)
	for _, e := range u.all {
		usernameTaken = usernameTaken || e.user.Username == username
		emailTaken = emailTaken || e.email == email
	}
	return usernameTaken, emailTaken
}

// Store is relay.Values and relay.Meter. The zero value is empty.
type Store struct {
	fault
	mu     sync.Mutex
	values map[string]value
	counts map[string]count
}

type value struct {
	bytes []byte
	until time.Time
}

type count struct {
	n     int64
	until time.Time
}

var (
	_ relay.Values = (*Store)(nil)
	_ relay.Meter  = (*Store)(nil)
)

// The bounds of what relay calls small.
const (
	maxKey   = 256
	maxValue = 64 << 10
)

func check(key string, value []byte, life time.Duration) error {
	kind, rest, found := strings.Cut(key, "/")
	if !found || kind == "" || rest == "" || len(key) > maxKey || len(value) > maxValue || life < time.Millisecond {
		return fmt.Errorf("key %.64q, with %d bytes for %s, breaks a rule", key, len(value), life)
	}
	return nil
}

// open locks the store, and checks a call.
func (s *Store) open(ctx context.Context) error {
	if err := s.failure(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	if s.values == nil {
		s.values, s.counts = map[string]value{}, map[string]count{}
	}
	return nil
}

// Put implements relay.Values.
func (s *Store) Put(ctx context.Context, key string, v []byte, life time.Duration) error {
	if err := check(key, v, life); err != nil {
		return err
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.values[key] = value{bytes.Clone(v), time.Now().Add(life)}
	return nil
}

// Get implements relay.Values.
func (s *Store) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	for _, key := range keys {
		if err := check(key, nil, time.Second); err != nil {
			return nil, err
		}
	}
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	found := make([][]byte, len(keys))
	for i, key := range keys {
		if v, ok := s.values[key]; ok && time.Now().Before(v.until) {
			found[i] = append([]byte{}, v.bytes...)
		}
	}
	return found, nil
}

// Delete implements relay.Values.
func (s *Store) Delete(ctx context.Context, key string) (bool, error) {
	if err := check(key, nil, time.Second); err != nil {
		return false, err
	}
	if err := s.open(ctx); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	v, ok := s.values[key]
	delete(s.values, key)
	return ok && time.Now().Before(v.until), nil
}

// Take implements relay.Meter.
func (s *Store) Take(ctx context.Context, key string, most int64, window time.Duration) (time.Duration, error) {
	if err := check(key, nil, window); err != nil {
		return 0, err
	}
	if most < 1 {
		return 0, fmt.Errorf("meter %q: at most %d is never", key, most)
	}
	if err := s.open(ctx); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	c := s.counts[key]
	left := time.Until(c.until)
	if c.n == 0 || left <= 0 {
		s.counts[key] = count{1, time.Now().Add(window)}
		return 0, nil
	}
	if left > window {
		left, c.until = window, time.Now().Add(window)
	}
	if c.n >= most {
		s.counts[key] = c
		return left, nil
	}
	c.n++
	s.counts[key] = c
	return 0, nil
}

// Return implements relay.Meter.
func (s *Store) Return(ctx context.Context, key string) error {
	if err := check(key, nil, time.Second); err != nil {
		return err
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if c := s.counts[key]; c.n > 0 {
		c.n--
		s.counts[key] = c
	}
	return nil
}

// Count is how often something counts at present.
func (s *Store) Count(key string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.counts[key]; time.Now().Before(c.until) {
		return c.n
	}
	return 0
}

// Keys are the keys of all values and counts.
func (s *Store) Keys() (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.values {
		keys = append(keys, key)
	}
	for key := range s.counts {
		keys = append(keys, key)
	}
	return keys
}

// Publisher is a relay.Publisher that notes what is published.
type Publisher struct {
	fault
	mu   sync.Mutex
	sent []relay.Message
}

var _ relay.Publisher = (*Publisher)(nil)

// Enqueue implements relay.Publisher.
func (p *Publisher) Enqueue(m relay.Message, r relay.Retention, a relay.Acker, t relay.Token) {
	id, err := p.Publish(context.Background(), m, r)
	if a != nil {
		a.Published(t, id, err)
	}
}

// Publish implements relay.Publisher.
func (p *Publisher) Publish(ctx context.Context, m relay.Message, _ relay.Retention) (relay.ID, error) {
	if err := p.failure(ctx); err != nil {
		return relay.ID{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, m)
	return relay.ID{}, nil
}

// Sent are the messages that were published so far, in their order.
func (p *Publisher) Sent() []relay.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]relay.Message(nil), p.sent...)
}
