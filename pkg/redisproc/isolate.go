package redisproc

import (
	"context"
	"fmt"
	"strings"
)

// What a server takes away from Sentinels and replicas to be cut off from them.
// When their own user is refused they fall back to the default one, which needs
// no password here: so it must not do what they live on either.
var peerCommands = []string{"ping", "psync", "sync", "replconf"}

// Isolate cuts a server off from the Sentinels and the replicas: their users are
// switched off and their connections closed. To the Sentinels it is down; nothing
// of what it is given reaches a replica any more. Clients that are connected, and
// new ones, still reach it, and it takes their writes as before; only PING is
// refused to them. It lasts until Heal, or a Restart.
func (s *Sentinel) Isolate(ctx context.Context, server *Server) error {
	c := server.Client()
	for _, args := range append(
		[][]any{{"ACL", "SETUSER", sentinelUser, "off"}, {"ACL", "SETUSER", replicaUser, "off"}, peerRights("-")},
		[]any{"CLIENT", "KILL", "USER", sentinelUser}, []any{"CLIENT", "KILL", "USER", replicaUser}) {
		// A server has no connections of Sentinels or replicas: that is no error.
		if err := c.Do(ctx, args...).Err(); err != nil && !strings.Contains(err.Error(), "No such") {
			return fmt.Errorf("isolating %s: %w", server.Addr(), err)
		}
	}
	return nil
}

// Heal undoes Isolate. The Sentinels then make the server a replica of the master
// that they have chosen in the meantime; that takes them about 10 s, WaitReady
// waits for it. What clients have written to it since Isolate is gone then.
func (s *Sentinel) Heal(ctx context.Context, server *Server) error {
	c := server.Client()
	for _, args := range [][]any{{"ACL", "SETUSER", sentinelUser, "on"}, {"ACL", "SETUSER", replicaUser, "on"}, peerRights("+")} {
		if err := c.Do(ctx, args...).Err(); err != nil {
			return fmt.Errorf("healing %s: %w", server.Addr(), err)
		}
	}
	return nil
}

func peerRights(sign string) []any {
	args := []any{"ACL", "SETUSER", "default"}
	for _, command := range peerCommands {
		args = append(args, sign+command)
	}
	return args
}
