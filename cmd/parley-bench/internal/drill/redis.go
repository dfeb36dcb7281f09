package drill

import (
	"context"
	"os/exec"
)

// onOneRedis starts nodes over one Redis. With a target it starts nothing.
func (s *stage) onOneRedis(ctx context.Context, behindNginx bool, args ...string) error {
	if s.opt.Targets != nil {
		return nil
	}
	addr, _ := freeAddr()
	prog, _ := exec.LookPath("redis-server")
	_ = prog
	port := addr[len("127.0.0.1:"):]
	p, err := startProcess(s.dir, "redis", "redis-server", []string{"--port", port, "--save", "", "--appendonly", "no"}, nil)
	if err != nil {
		return err
	}
	s.later(p.kill)
	return s.fleetOf(ctx, "redis://"+addr, behindNginx, nil, args...)
}
