package drill

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"parley/cmd/parley-bench/internal/pull"
	"parley/pkg/account"
	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relay"
	"parley/pkg/sqlstore"
)

// Own is a fleet of a run's own: one Redis, a database and nodes, as child processes on
// free ports of loopback.
type Own struct {
	dir      string
	redis    *redisproc.Server
	fleet    *fleet
	database string // the URL of the nodes' database
}

// StartOwn starts n nodes of a program, with these settings besides the addresses, and
// returns when all are ready. Their database is a file, unless there is a URL of another
// one. The caller closes the fleet.
func StartOwn(ctx context.Context, program string, n int, database string, args ...string) (_ *Own, err error) {
	o := &Own{database: database}
	defer func() {
		if err != nil {
			_ = o.Close() // the first error is the one that tells
		}
	}()
	if o.dir, err = os.MkdirTemp("", "parley-bench-"); err != nil {
		return nil, err
	}
	if o.database == "" {
		o.database = "sqlite:" + filepath.Join(o.dir, "bench.db")
	}
	if o.redis, err = redisproc.Start(redisproc.Options{}); err != nil {
		return nil, err
	}
	// By the environment: a URL may hold a password, which is to be in no list of processes.
	env := []string{"PARLEY_DATABASE_URL=" + o.database}
	if o.fleet, err = startFleet(ctx, o.dir, program, o.redis.URL(), n, args, env); err != nil {
		return nil, err
	}
	return o, nil
}

// Close ends all, and removes the logs and the file.
func (o *Own) Close() error {
	var errs []error
	if o.fleet != nil {
		o.fleet.close()
	}
	if o.redis != nil {
		errs = append(errs, o.redis.Close())
	}
	if o.dir != "" {
		errs = append(errs, os.RemoveAll(o.dir))
	}
	return errors.Join(errs...)
}

// Addrs are where the nodes are.
func (o *Own) Addrs() []string { return o.fleet.addrs() }

// Metrics are the URLs of the nodes' pages of figures.
func (o *Own) Metrics() (urls []string) {
	for _, n := range o.fleet.nodes {
		urls = append(urls, "http://"+n.internal+"/metrics")
	}
	return urls
}

// PIDs are the nodes' processes.
func (o *Own) PIDs() (pids []int) {
	for _, n := range o.fleet.nodes {
		pids = append(pids, n.process.os.Pid)
	}
	return pids
}

// RedisPID is Redis's process.
func (o *Own) RedisPID() int { return o.redis.Pid() }

// RedisConnections is how many connections Redis has, that which asks included.
func (o *Own) RedisConnections(ctx context.Context) (int, error) {
	info, err := o.redis.Client().Info(ctx, "clients").Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(info) {
		if n, ok := strings.CutPrefix(line, "connected_clients:"); ok {
			return strconv.Atoi(strings.TrimSpace(n))
		}
	}
	return 0, errors.New("redis does not tell how many connections it has")
}

// deaf is a receiver of nothing.
type deaf struct{}

func (deaf) Dispatch(relay.Message)          {}
func (deaf) Gap(relay.Topic, relay.Position) {}
func (deaf) Flush()                          {}

// Users puts n accounts without passwords into the database, each with a session. That is
// for as many as would take minutes to sign up.
func (o *Own) Users(ctx context.Context, n int) (all []pull.User, err error) {
	log := slog.New(slog.DiscardHandler)
	store, err := sqlstore.Open(ctx, sqlstore.Options{URL: o.database, Log: log})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	bus, err := redisbus.New(redisbus.Options{URL: o.redis.URL(), Node: "parley-bench", Log: log})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = bus.Run(running, deaf{}) }) // it ends its connections then
	defer wg.Wait()
	defer stop()
	accounts := account.New(account.Config{Users: store.Users(), Values: bus.Values(), Log: log})
	crowd := strings.ToLower(rand.Text())
	for i := range n {
		name := fmt.Sprintf("bench-%s-%d", crowd, i)
		u, err := store.Users().Create(ctx, relay.User{Username: name, Email: name + "@parley.example"}, "")
		if err != nil {
			return nil, err
		}
		token, _, err := accounts.Open(ctx, u)
		if err != nil {
			return nil, err
		}
		all = append(all, pull.User{ID: u.ID, Username: u.Username, Token: token})
	}
	return all, nil
}
