package redisproc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MasterName is what the Sentinels call the master.
const MasterName = "mymaster"

// Sentinels and replicas connect under names of their own, so that they can be
// cut off while clients stay.
const (
	sentinelUser = "sentinel"
	replicaUser  = "replica"
	fleetPass    = "redisproc"
)

// SentinelOptions configure a master with replicas and Sentinels.
type SentinelOptions struct {
	Dir             string        // for their files; "": a temporary one each
	Replicas        int           // 0: 2
	Sentinels       int           // 0: 3
	DownAfter       time.Duration // of silence until a Sentinel calls a server down; 0: 1s
	FailoverTimeout time.Duration // after which a failover that got stuck is given up; 0: 5s
	MasterArgs      []string      // more settings of every server, since each may become master
}

// Sentinel is a master with replicas and the Sentinels that watch it.
type Sentinel struct {
	Servers   []*Server // the first one was the master at the start
	Sentinels []*Server
	quorum    int
}

// infoPeriod is how often the Sentinels ask the servers for how much they have
// received. They do each ten seconds by themselves, and may then promote a replica
// that lacks what another one has acknowledged.
const infoPeriod = 500 * time.Millisecond

// StartSentinel runs them. It returns when the replicas are in sync and the
// Sentinels know all servers and each other. End them with Close.
func StartSentinel(ctx context.Context, o SentinelOptions) (_ *Sentinel, err error) {
	o.Replicas, o.Sentinels = cmp.Or(o.Replicas, 2), cmp.Or(o.Sentinels, 3)
	o.DownAfter, o.FailoverTimeout = cmp.Or(o.DownAfter, time.Second), cmp.Or(o.FailoverTimeout, 5*time.Second)
	s := &Sentinel{quorum: o.Sentinels/2 + 1}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for range 1 + o.Replicas {
		server, err := start(Options{Dir: o.Dir, Args: o.MasterArgs}, s.serverConfig, "Ready to accept connections")
		if err != nil {
			return s, err
		}
		s.Servers = append(s.Servers, server)
	}
	if err := s.waitInSync(ctx, s.Servers[0], s.Servers[1:]); err != nil {
		return s, err
	}
	for range o.Sentinels {
		sentinel, err := start(Options{Dir: o.Dir}, func(int) []string {
			return []string{
				fmt.Sprintf("sentinel monitor %s %s %d %d", MasterName, host, s.Servers[0].port, s.quorum),
				fmt.Sprintf("sentinel down-after-milliseconds %s %d", MasterName, o.DownAfter.Milliseconds()),
				fmt.Sprintf("sentinel failover-timeout %s %d", MasterName, o.FailoverTimeout.Milliseconds()),
				fmt.Sprintf("sentinel parallel-syncs %s %d", MasterName, o.Replicas),
				fmt.Sprintf("sentinel auth-user %s %s", MasterName, sentinelUser),
				fmt.Sprintf("sentinel auth-pass %s %s", MasterName, fleetPass),
			}
		}, "Sentinel ID is", "--sentinel")
		if err != nil {
			return s, err
		}
		s.Sentinels = append(s.Sentinels, sentinel)
		err = sentinel.Client().Do(ctx, "SENTINEL", "DEBUG", "INFO-PERIOD", infoPeriod.Milliseconds()).Err()
		if err != nil {
			return s, fmt.Errorf("sentinel debug info-period: %w", err)
		}
	}
	return s, s.WaitReady(ctx)
}

// serverConfig is that of the master, and of its replicas.
func (s *Sentinel) serverConfig(int) []string {
	lines := []string{
		"masteruser " + replicaUser,
		"masterauth " + fleetPass,
		"user " + sentinelUser + " on >" + fleetPass + " ~* &* +@all",
		"user " + replicaUser + " on >" + fleetPass + " ~* &* +@all",
		"repl-diskless-sync-delay 0",
		"repl-ping-replica-period 1",
	}
	if len(s.Servers) > 0 {
		lines = append(lines, fmt.Sprintf("replicaof %s %d", host, s.Servers[0].port))
	}
	return lines
}

// URL is where clients find the master: "redis+sentinel://h1,h2,h3/mymaster".
func (s *Sentinel) URL() string {
	var hosts []string
	for _, sentinel := range s.Sentinels {
		hosts = append(hosts, sentinel.Addr())
	}
	return "redis+sentinel://" + strings.Join(hosts, ",") + "/" + MasterName
}

// Master is the server that most of the Sentinels name.
func (s *Sentinel) Master(ctx context.Context) (*Server, error) {
	votes := map[string]int{}
	var errs []error
	for _, sentinel := range s.Sentinels {
		if !sentinel.Running() {
			continue
		}
		answer, err := sentinel.Client().Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName).StringSlice()
		if err != nil || len(answer) != 2 {
			errs = append(errs, fmt.Errorf("%s: %v %w", sentinel.Addr(), answer, err))
			continue
		}
		votes[net.JoinHostPort(answer[0], answer[1])]++
	}
	for _, server := range s.Servers {
		if votes[server.Addr()] >= s.quorum {
			return server, nil
		}
	}
	return nil, fmt.Errorf("the Sentinels do not agree on a master: %v: %w", votes, errors.Join(errs...))
}

// WaitReady waits until the Sentinels agree on a master that lives, know each
// other, and all its replicas that run are in sync.
func (s *Sentinel) WaitReady(ctx context.Context) error {
	return await(ctx, "waiting for the Sentinels", func() error {
		master, err := s.Master(ctx)
		if err != nil {
			return err
		}
		var replicas []*Server
		for _, server := range s.Servers {
			if server != master && server.Running() {
				replicas = append(replicas, server)
			}
		}
		if err := inSync(ctx, master, replicas); err != nil {
			return err
		}
		for _, sentinel := range s.Sentinels {
			if err := s.watches(ctx, sentinel, master, len(replicas)); err != nil {
				return err
			}
		}
		return nil
	})
}

// watches returns an error unless a Sentinel, if it runs, sees all there is.
func (s *Sentinel) watches(ctx context.Context, sentinel, master *Server, replicas int) error {
	if !sentinel.Running() {
		return nil
	}
	about, err := sentinel.Client().Do(ctx, "SENTINEL", "MASTER", MasterName).StringSlice()
	if err != nil {
		return fmt.Errorf("%s: %w", sentinel.Addr(), err)
	}
	m := map[string]string{}
	for i := 0; i+1 < len(about); i += 2 {
		m[about[i]] = about[i+1]
	}
	known, _ := strconv.Atoi(m["num-slaves"])
	if m["port"] != strconv.Itoa(master.port) || m["flags"] != "master" || known < replicas ||
		m["num-other-sentinels"] != strconv.Itoa(len(s.Sentinels)-1) {
		return fmt.Errorf("%s: master on port %s (%s), %s replicas, %s other Sentinels",
			sentinel.Addr(), m["port"], m["flags"], m["num-slaves"], m["num-other-sentinels"])
	}
	return nil
}

// KillMaster ends the master by SIGKILL and returns which it was. It does not wait
// for the failover.
func (s *Sentinel) KillMaster(ctx context.Context) (*Server, error) {
	master, err := s.Master(ctx)
	if err != nil {
		return nil, err
	}
	master.Kill()
	return master, nil
}

// Rejoin starts a dead server again, empty, as a replica of the present master,
// and waits until it is in sync. (Server.Restart leaves it to the Sentinels to make
// it one; they take about 10 s for that, and an old master that is back before they
// have failed over is master again, and empty.)
func (s *Sentinel) Rejoin(ctx context.Context, server *Server) error {
	var master *Server
	err := await(ctx, "waiting for a master to join", func() (err error) {
		if master, err = s.Master(ctx); err == nil && (master == server || !master.Running()) {
			err = fmt.Errorf("the Sentinels still name %s", master.Addr())
		}
		return err
	})
	if err != nil {
		return err
	}
	server.mu.Lock()
	server.more = append(slices.DeleteFunc(server.more, func(line string) bool { return strings.HasPrefix(line, "replicaof ") }),
		fmt.Sprintf("replicaof %s %d", host, master.port))
	server.kill()
	if err = server.configure(); err == nil {
		err = server.runLocked()
	}
	server.mu.Unlock()
	if err != nil {
		return err
	}
	return s.waitInSync(ctx, master, []*Server{server})
}

// Failover has the Sentinels make a replica the master; the old master stays alive
// and is demoted to a replica. It returns both, when the Sentinels agree on the new
// one; the old one may take a second longer to become its replica.
func (s *Sentinel) Failover(ctx context.Context) (from, to *Server, err error) {
	if from, err = s.Master(ctx); err != nil {
		return nil, nil, err
	}
	// A Sentinel that does not yet see a good replica refuses.
	err = await(ctx, "asking for a failover", func() error {
		var errs []error
		for _, sentinel := range s.Sentinels {
			err := sentinel.Client().Do(ctx, "SENTINEL", "FAILOVER", MasterName).Err()
			if err == nil || strings.Contains(err.Error(), "INPROG") {
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return from, nil, err
	}
	to, err = s.WaitMoved(ctx, from)
	return from, to, err
}

// WaitMoved waits until the Sentinels agree on another master than the given one.
func (s *Sentinel) WaitMoved(ctx context.Context, from *Server) (to *Server, err error) {
	err = await(ctx, "waiting for another master", func() error {
		if to, err = s.Master(ctx); err == nil && to == from {
			err = fmt.Errorf("the Sentinels still name %s", from.Addr())
		}
		return err
	})
	return to, err
}

// Close ends all of them.
func (s *Sentinel) Close() error {
	var errs []error
	for _, server := range slices.Concat(s.Sentinels, s.Servers) {
		errs = append(errs, server.Close())
	}
	return errors.Join(errs...)
}

// Log is the end of what all of them have said.
func (s *Sentinel) Log() string { return logs(slices.Concat(s.Servers, s.Sentinels)) }

func (s *Sentinel) waitInSync(ctx context.Context, master *Server, replicas []*Server) error {
	return await(ctx, "waiting for the replicas", func() error { return inSync(ctx, master, replicas) })
}

// inSync returns an error unless all replicas follow the master.
func inSync(ctx context.Context, master *Server, replicas []*Server) error {
	of, err := master.info(ctx, "replication")
	if err != nil {
		return err
	}
	if of["role"] != "master" {
		return fmt.Errorf("%s is a %s", master.Addr(), of["role"])
	}
	for _, r := range replicas {
		about, err := r.info(ctx, "replication")
		if err != nil {
			return err
		}
		if about["role"] != "slave" || about["master_port"] != strconv.Itoa(master.port) || about["master_link_status"] != "up" {
			return fmt.Errorf("%s is a %s of %s, link %s, not in sync with %s", r.Addr(), about["role"], about["master_port"], about["master_link_status"], master.Addr())
		}
		online := false
		for name, value := range of {
			online = online || strings.HasPrefix(name, "slave") && strings.Contains(value, ",port="+strconv.Itoa(r.port)+",state=online")
		}
		if !online {
			return fmt.Errorf("%s does not count %s as in sync", master.Addr(), r.Addr())
		}
	}
	return nil
}

func logs(servers []*Server) string {
	var b strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&b, "--- %s\n%s", s.Addr(), s.Log())
	}
	return b.String()
}
