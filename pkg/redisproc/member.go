package redisproc

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// member is what a member of a Cluster says of another one, or of itself.
type member struct {
	id    string
	port  int
	flags []string
	epoch uint64
	slots [][2]int // first and last of each range
}

func (m member) is(flag string) bool { return slices.Contains(m.flags, flag) }

func (m member) has(slot int) bool {
	return slices.ContainsFunc(m.slots, func(r [2]int) bool { return r[0] <= slot && slot <= r[1] })
}

// members is the server's CLUSTER NODES.
func (s *Server) members(ctx context.Context) ([]member, error) {
	text, err := s.Client().ClusterNodes(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Addr(), err)
	}
	var members []member
	for line := range strings.Lines(text) {
		m, err := parseMember(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Addr(), err)
		}
		members = append(members, m)
	}
	return members, nil
}

// myself is what the server says of itself.
func (s *Server) myself(ctx context.Context) (member, error) {
	members, err := s.members(ctx)
	if err != nil {
		return member{}, err
	}
	for _, m := range members {
		if m.is("myself") {
			return m, nil
		}
	}
	return member{}, fmt.Errorf("%s does not know itself", s.Addr())
}

// parseMember reads a line: id, ip:port@bus, flags, master, ping, pong, epoch,
// link, slots.
func parseMember(line string) (member, error) {
	f := strings.Fields(line)
	if len(f) < 8 {
		return member{}, fmt.Errorf("line %q of CLUSTER NODES is too short", line)
	}
	m := member{id: f[0], flags: strings.Split(f[2], ",")}
	addr, _, _ := strings.Cut(f[1], "@")
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return m, fmt.Errorf("line %q of CLUSTER NODES: %w", line, err)
	}
	if m.port, err = strconv.Atoi(port); err != nil {
		return m, fmt.Errorf("line %q of CLUSTER NODES: %w", line, err)
	}
	if m.epoch, err = strconv.ParseUint(f[6], 10, 64); err != nil {
		return m, fmt.Errorf("line %q of CLUSTER NODES: %w", line, err)
	}
	for _, r := range f[8:] {
		if strings.HasPrefix(r, "[") { // on its way
			continue
		}
		from, to, isRange := strings.Cut(r, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil {
			return m, fmt.Errorf("line %q of CLUSTER NODES: slots %q", line, r)
		}
		m.slots = append(m.slots, [2]int{first, last})
	}
	return m, nil
}
