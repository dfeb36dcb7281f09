package account

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"parley/pkg/relay"
)

// What Config's limits should be where nothing else is wanted.
const (
	DefaultFailuresPerAccount = 10
	DefaultFailuresPerAddress = 100
)

// FailureWindow is the time in which failed sign-ins are counted, from the first one.
const FailureWindow = 5 * time.Minute

var (
	// ErrLogin means that there is no account with this email and this password.
	ErrLogin = errors.New("wrong email or password")
	// ErrNoSession means that a token is of no session that stands.
	ErrNoSession = errors.New("no such session")
)

// Limited means that too many sign-ins have failed.
type Limited struct {
	Wait time.Duration // until the next may be tried
}

func (l *Limited) Error() string {
	return fmt.Sprintf("too many sign-ins have failed: try again in %s", l.Wait.Round(time.Second))
}

// Config holds what Accounts work with. A limit of 0 is off.
type Config struct {
	Users     relay.Users
	Values    relay.Values // has the sessions
	Meter     relay.Meter  // has the failures
	Publisher relay.Publisher
	// FailuresPerAccount and FailuresPerAddress are how many sign-ins may fail within
	// FailureWindow, on all nodes together: for one email, whether an account has it or
	// not, and from one client address or IPv6 /64 network. Those under way count until
	// they have succeeded.
	FailuresPerAccount int
	FailuresPerAddress int
	Log                *slog.Logger // nil: none
}

// Accounts make accounts, check passwords and keep sessions. All methods may be called
// from any goroutine. Those with a context wait for Redis, the database or a turn to
// compute a password; errors wrap relay.ErrUnavailable when one of them did not answer.
type Accounts struct {
	// Fixed after New.
	cfg     Config
	log     *slog.Logger
	pool    *pool
	metrics *Metrics
}

// New makes Accounts. They have no goroutines and need no end.
func New(cfg Config) *Accounts {
	a := &Accounts{cfg: cfg, log: cfg.Log}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.metrics = newMetrics(func() float64 { return float64(a.pool.waiting()) })
	a.pool = newPool(a.metrics.seconds)
	return a
}

// Metrics are the figures of the accounts, to be registered once.
func (a *Accounts) Metrics() *Metrics { return a.metrics }
