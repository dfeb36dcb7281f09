// Package embedded runs a Redis inside the process, for a node that runs alone.
package embedded

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// expiryStep is the precision of expiries: miniredis has no clock of its own.
const expiryStep = time.Second

// Redis is an in-process Redis on a free loopback port, behind a random
// password. Nothing of it survives the process.
type Redis struct {
	server  *miniredis.Miniredis
	url     string
	stop    chan struct{}
	stopped chan struct{}
}

// StartRedis starts one; end it with Close.
func StartRedis() (*Redis, error) {
	r := &Redis{server: miniredis.NewMiniRedis(), stop: make(chan struct{}), stopped: make(chan struct{})}
	password := rand.Text()
	r.server.RequireAuth(password)
	if err := r.server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("embedded redis: %w", err)
	}
	r.url = "redis://:" + password + "@" + r.server.Addr()
	go r.expire()
	return r, nil
}

// URL is where to reach it, until Close.
func (r *Redis) URL() string { return r.url }

// expire moves the clock of miniredis along with ours.
func (r *Redis) expire() {
	defer close(r.stopped)
	tick := time.NewTicker(expiryStep)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
			r.server.FastForward(expiryStep)
		}
	}
}

// Close stops it, cuts its connections and waits until they have ended. Call it
// once.
func (r *Redis) Close() {
	close(r.stop)
	<-r.stopped
	r.server.Close()
}
