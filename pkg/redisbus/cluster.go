package redisbus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// mapAge is how old the map of the Cluster's slots may be when a link asks
	// where its slot is: links that ask together share an answer.
	mapAge = 100 * time.Millisecond
	// mapWitnesses is how many nodes are asked for it at a time. Of two that
	// disagree, the one that knows the later owner of a slot is believed.
	mapWitnesses = 5
)

// cluster knows which master of a Redis Cluster has a slot.
type cluster struct {
	// Fixed.
	address *address

	mu      sync.Mutex // held while the nodes are asked, so that they are asked once
	at      time.Time
	err     error
	owners  []owner
	clients map[string]*redis.Client // of the nodes that are asked, by address
}

// owner is a master and one range of its slots.
type owner struct {
	from, to int
	addr     string
	epoch    uint64 // the later one of two owners of a slot has the higher
}

func newCluster(a *address) *cluster {
	c := &cluster{address: a, clients: map[string]*redis.Client{}}
	for _, host := range a.hosts {
		c.learn(host)
	}
	return c
}

// learn is called with mu held, or before anybody else has c.
func (c *cluster) learn(addr string) {
	if c.clients[addr] != nil {
		return
	}
	o := clientOptions(&c.address.options)
	o.Addr = addr
	o.PoolSize = 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = askTimeout, askTimeout, askTimeout
	o.TLSConfig = c.address.tlsFor(addr)
	c.clients[addr] = redis.NewClient(o)
}

// find returns a finder of the master that has a slot.
func (c *cluster) find(slot int) finder {
	return func(ctx context.Context) (string, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if time.Since(c.at) > mapAge {
			c.owners, c.err = c.ask(ctx)
			c.at = time.Now()
		}
		if c.err != nil {
			return "", c.err
		}
		var best owner
		for _, o := range c.owners {
			if o.from <= slot && slot <= o.to && (best.addr == "" || o.epoch > best.epoch) {
				best = o
			}
		}
		if best.addr == "" {
			return "", fmt.Errorf("no master of the Redis Cluster has slot %d", slot)
		}
		return best.addr, nil
	}
}

// ask has some nodes tell what they know of all; mu is held.
func (c *cluster) ask(ctx context.Context) ([]owner, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	type answer struct {
		addr string
		text string
		err  error
	}
	answers := make(chan answer, mapWitnesses)
	asked := 0
	for addr, client := range c.clients { // in any order, so that all get their turn
		if asked == mapWitnesses {
			break
		}
		asked++
		go func() {
			text, err := client.ClusterNodes(ctx).Result()
			answers <- answer{addr, text, err}
		}()
	}
	var all []owner
	var errs []error
	known := slices.Clone(c.address.hosts)
	for range asked {
		a := <-answers
		if a.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.addr, a.err))
			continue
		}
		owners, nodes := parseNodes(a.text, a.addr)
		all = append(all, owners...)
		time.AfterFunc(askLonger, cancel) // which is called at the end in any case
		known = append(known, nodes...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no node of the Redis Cluster tells who has its slots: %w", errors.Join(errs...))
	}
	for _, addr := range known {
		c.learn(addr)
	}
	for addr, client := range c.clients {
		if !slices.Contains(known, addr) {
			_ = client.Close() // it has left the Cluster
			delete(c.clients, addr)
		}
	}
	return all, nil
}

// parseNodes reads the answer to CLUSTER NODES of the node at self: the slots of
// every master, and the addresses of all nodes.
func parseNodes(text, self string) (owners []owner, nodes []string) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		addr, _, _ := strings.Cut(f[1], "@")
		addr, _, _ = strings.Cut(addr, ",")
		flags := strings.Split(f[2], ",")
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" {
			// A node that nobody has met yet does not know its own address.
			selfHost, _, _ := net.SplitHostPort(self)
			if !slices.Contains(flags, "myself") || port == "" {
				continue
			}
			addr = net.JoinHostPort(selfHost, port)
		}
		if slices.Contains(flags, "noaddr") || slices.Contains(flags, "handshake") {
			continue
		}
		nodes = append(nodes, addr)
		if !slices.Contains(flags, "master") {
			continue
		}
		epoch, _ := strconv.ParseUint(f[6], 10, 64)
		for _, s := range f[8:] {
			if strings.HasPrefix(s, "[") { // a slot on its way
				continue
			}
			from, to, isRange := strings.Cut(s, "-")
			if !isRange {
				to = from
			}
			first, err1 := strconv.Atoi(from)
			last, err2 := strconv.Atoi(to)
			if err1 == nil && err2 == nil {
				owners = append(owners, owner{first, last, addr, epoch})
			}
		}
	}
	return owners, nodes
}

func (c *cluster) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, client := range c.clients {
		errs = append(errs, client.Close())
	}
	return errors.Join(errs...)
}
