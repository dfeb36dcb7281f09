package account

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/scrypt"

	"parley/pkg/relay"
)

const (
	// maxWaiting is how many passwords may wait to be computed on this node.
	maxWaiting = 256
	// patience is how long one waits, below the time that the HTTP server has for an
	// answer.
	patience = 15 * time.Second
)

// ErrBusy means that too many passwords wait to be computed on this node. Trying again
// later may succeed.
var ErrBusy = errors.New("too many sign-ins at once")

// pool computes passwords: few at a time, so that the relay has processors left, and
// with few that wait. It has no goroutines; whoever wants something computes it.
type pool struct {
	// Fixed.
	key     func(password, salt []byte, cost, blockSize, parallel, length int) ([]byte, error)
	seconds prometheus.Observer
	line    chan struct{} // an element for each computation, under way or waiting
	workers chan struct{} // an element for each that is under way
	// makers has an element for each new password that is under way or next, at most as
	// many as there are workers: those who sign in do not wait behind all who sign up.
	makers chan struct{}
}

func newPool(seconds prometheus.Observer) *pool {
	workers := max(1, runtime.GOMAXPROCS(0)/2)
	return &pool{key: scrypt.Key, seconds: seconds, line: make(chan struct{}, workers+maxWaiting), workers: make(chan struct{}, workers), makers: make(chan struct{}, workers)}
}

// waiting is how many computations wait.
func (p *pool) waiting() int { return max(0, len(p.line)-len(p.workers)) }

// compute returns what a password gives with a hash's parameters and salt. It waits
// for its turn, at most as long as patience and ctx allow: ErrBusy, or an error that
// wraps relay.ErrUnavailable. Gate, if it is not nil, is waited for before the turn.
// When it is its turn, first is called, if it is not nil; an
// error of that is the end of it. What has begun is brought to its end.
func (p *pool) compute(ctx context.Context, password string, h hash, length int, gate chan struct{}, first func() error) ([]byte, error) {
	select {
	case p.line <- struct{}{}:
		defer func() { <-p.line }()
	default:
		return nil, ErrBusy
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for _, turn := range []chan struct{}{gate, p.workers} {
		if turn == nil {
			continue
		}
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-timeout.C:
			return nil, ErrBusy
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", relay.ErrUnavailable, ctx.Err())
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", relay.ErrUnavailable, err)
	}
	if first != nil {
		if err := first(); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	sum, err := p.key([]byte(password), h.salt, 1<<h.costLog, h.blockSize, h.parallel, length)
	p.seconds.Observe(time.Since(began).Seconds())
	return sum, err
}

// make returns a password as it is to be kept. When it is its turn, first is called; an
// error of that is the end of it.
func (p *pool) make(ctx context.Context, password string, first func() error) (string, error) {
	h := newHash()
	sum, err := p.compute(ctx, password, h, hashBytes, p.makers, first)
	if err != nil {
		return "", err
	}
	h.sum = sum
	return h.String(), nil
}

// fits tells whether a password is the one that is kept.
func (p *pool) fits(ctx context.Context, password string, h hash) (bool, error) {
	sum, err := p.compute(ctx, password, h, len(h.sum), nil, nil)
	return err == nil && subtle.ConstantTimeCompare(sum, h.sum) == 1, err
}
