package redisbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// askTimeout bounds a question to one Sentinel, or to one node of a Cluster for
// the map of its slots.
const askTimeout = 500 * time.Millisecond

// askLonger is how much longer the others are waited for when one has answered.
const askLonger = 100 * time.Millisecond

// epochMemory is for how long no Sentinel is believed that knows of fewer failovers
// than others did, who may just not answer in time. After that the others have gone.
const epochMemory = 10 * time.Second

// sentinels ask all Sentinels where the master is and believe the one that knows
// the latest failover. The library's own failover client asks one of them, and
// leaves subscriber connections on a master that was demoted and lives on.
type sentinels struct {
	name    string
	clients []*redis.Client

	mu    sync.Mutex
	epoch uint64    // of the latest failover that was heard of
	heard time.Time // when it was heard of last
}

func newSentinels(a *address, dial dialFunc) *sentinels {
	s := &sentinels{name: a.master}
	for _, host := range a.hosts {
		o := clientOptions(&a.sentinel)
		o.Addr = host
		o.PoolSize = 1
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = askTimeout, askTimeout, askTimeout
		config := a.tlsFor(host)
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := dial(ctx, network, addr)
			if err == nil && config != nil {
				nc = tls.Client(nc, config)
			}
			return nc, err
		}
		s.clients = append(s.clients, redis.NewClient(o))
	}
	return s
}

// find is a finder.
func (s *sentinels) find(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	type answer struct {
		addr  string
		epoch uint64
		err   error
	}
	answers := make(chan answer, len(s.clients))
	for _, c := range s.clients {
		go func() {
			addr, epoch, err := s.ask(ctx, c)
			answers <- answer{addr, epoch, err}
		}()
	}
	var best answer
	var errs []error
	for range s.clients { // each answers within askTimeout
		a := <-answers
		switch {
		case a.err != nil:
			errs = append(errs, a.err)
		case best.addr == "" || a.epoch > best.epoch:
			best = a
			time.AfterFunc(askLonger, cancel) // which is called at the end in any case
		}
	}
	if best.addr == "" {
		return "", fmt.Errorf("no Sentinel names the master %q: %w", s.name, errors.Join(errs...))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if best.epoch < s.epoch && time.Since(s.heard) < epochMemory {
		return "", fmt.Errorf("only Sentinels that have missed a failover name the master %q", s.name)
	}
	s.epoch, s.heard = best.epoch, time.Now()
	return best.addr, nil
}

func (s *sentinels) ask(ctx context.Context, c *redis.Client) (addr string, epoch uint64, err error) {
	// The leader of a failover tells the new epoch at once, and the new address,
	// until all replicas follow, only when it is asked for that alone.
	about := redis.NewMapStringStringCmd(ctx, "sentinel", "master", s.name)
	where := redis.NewStringSliceCmd(ctx, "sentinel", "get-master-addr-by-name", s.name)
	_, err = c.Pipelined(ctx, func(p redis.Pipeliner) error {
		_, _ = p.Process(ctx, about), p.Process(ctx, where) // only queues
		return nil
	})
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", c.Options().Addr, err)
	}
	if len(where.Val()) != 2 {
		return "", 0, fmt.Errorf("%s: no address", c.Options().Addr)
	}
	epoch, _ = strconv.ParseUint(about.Val()["config-epoch"], 10, 64) // without one it counts least
	return net.JoinHostPort(where.Val()[0], where.Val()[1]), epoch, nil
}

func (s *sentinels) close() error {
	var errs []error
	for _, c := range s.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
