package rooms_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	"parley/pkg/protocol/rooms/roomspb"
	"parley/pkg/relaytest"
)

// More rounds find what is rare: go test ./pkg/protocol/rooms -run Fleet -joins 5000
// -kills 20.
var (
	joins = flag.Int("joins", 6, "rounds in which many join a room with a few places")
	kills = flag.Int("kills", 1, "rounds in which a node is killed while hosts move")
)

// crowd is how many want a place at once.
const crowd = 64

// each calls f for every socket, all at once, and returns when all have returned.
func each(all []*socket, f func(i int, s *socket)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i, s := range all {
		wg.Go(func() {
			<-start
			f(i, s)
		})
	}
	close(start)
	wg.Wait()
}

// Many clients, on three nodes, want the same few places at once: there are never more
// clients than places, nor two with one id, and there is one host.
func TestFleetSeatsNoMoreThanThereArePlaces(t *testing.T) {
	nodes := startNodes(t, 3, relaytest.StartRedis(t).URL())
	sockets := make([]*socket, crowd)
	t.Cleanup(func() {
		for _, s := range sockets {
			if s != nil {
				_ = s.CloseNow()
			}
		}
	})
	for round := range *joins {
		for i := range sockets {
			if sockets[i] == nil {
				s, err := nodes[i%len(nodes)].dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				sockets[i] = s
			}
		}
		seatOnce(t, nodes, sockets, 1+round%3)
		if t.Failed() {
			t.Fatalf("round %d", round+1)
		}
	}
}

func seatOnce(t *testing.T, nodes []*process, sockets []*socket, places int) {
	t.Helper()
	room := nodes[0].call(t, http.MethodPost, "", map[string]int{"max_clients": places})
	path := fmt.Sprintf("/%d", room.ID)
	ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
	defer cancel()

	var mu sync.Mutex
	seated := map[int32]*socket{} // by id
	secrets := map[int32]int32{}
	place := map[*socket]int{} // its index
	enter := func(all []*socket, flag roomspb.FlagType, data proto.Message, refusals ...string) {
		each(all, func(_ int, s *socket) {
			who, err := s.enter(ctx, flag, data)
			mu.Lock()
			defer mu.Unlock()
			if no, ok := errors.AsType[refusal](err); ok && no.Code == 400 && slices.ContainsFunc(refusals, func(r string) bool { return strings.Contains(no.Message, r) }) {
				return
			}
			if err != nil {
				t.Errorf("entering: %v", err)
				return
			}
			if seated[who.ID] != nil {
				t.Errorf("two clients are %d", who.ID)
			}
			seated[who.ID], secrets[who.ID] = s, who.Secret
		})
	}
	enter(sockets, roomspb.FlagType_REQUEST_CONNECT, &roomspb.JoinRoomRequest{RoomID: room.ID, RoomSecret: room.Secret}, "the room is full")
	for i, s := range sockets {
		place[s] = i
	}
	if len(seated) != places {
		t.Errorf("%d are seated, there are %d places", len(seated), places)
	}
	for id := range int32(places) {
		if seated[id] == nil {
			t.Errorf("nobody is %d: %v", id, seated)
			return
		}
	}
	hosts := func() (n int) {
		for id, s := range seated {
			list, err := s.list(ctx)
			if err != nil {
				t.Errorf("list of %d: %v", id, err)
				return 0
			}
			if n := len(list.List); n != len(seated) {
				t.Errorf("%d are listed, and %d are seated", n, len(seated))
			}
			n += s.hostings
		}
		return n
	}
	if n := hosts(); n != 1 || seated[0].hostings != 1 {
		t.Errorf("%d are host", n)
	}

	// The first leaves, and all who have no place want to be it.
	gone := seated[0]
	delete(seated, 0)
	_ = gone.CloseNow()
	sockets[place[gone]] = nil
	relaytest.Eventually(t, "its place is free", func() bool {
		return nodes[1].call(t, http.MethodGet, path, nil).Clients == int32(places-1)
	})
	var rest []*socket
	for _, s := range sockets {
		if s != nil && !slices.ContainsFunc([]int32{1, 2}, func(id int32) bool { return seated[id] == s }) {
			rest = append(rest, s)
		}
	}
	enter(rest, roomspb.FlagType_REQUEST_RECONNECT,
		&roomspb.RejoinRoomRequest{RoomID: room.ID, RoomSecret: room.Secret, ClientID: 0, ClientSecret: secrets[0]}, "the client is connected", "the room is full")
	if len(seated) != places || seated[0] == nil {
		t.Errorf("%d are seated after one came back, want %d; the first is %v", len(seated), places, seated[0])
		return
	}
	if n := hosts(); n != 1 {
		t.Errorf("%d are host after the first came back", n)
	}

	// The room ends, and with it the connections of all who are in it, of nobody else.
	nodes[2].call(t, http.MethodDelete, path, nil)
	for id, s := range seated {
		_, err := s.answered(ctx)
		if code := websocket.CloseStatus(err); code != 4003 {
			t.Errorf("client %d was closed with %v", id, err)
		}
		_ = s.CloseNow()
		sockets[place[s]] = nil
		s.hostings = 0
	}
}

// member is a client that comes back, and while it is host makes others host, or kicks
// them.
type member struct {
	id, secret int32
	nodes      []*process
	room       info
	rng        *rand.Rand

	mu     sync.Mutex
	socket *socket
	list   *roomspb.ClientList // the last that it got
	host   bool                // it was told so, and not otherwise since
	back   int                 // times that it came back
}

// live keeps the member connected until ctx ends.
func (m *member) live(ctx context.Context, t *testing.T, s *socket, calm func() bool) {
	for ctx.Err() == nil {
		m.mu.Lock()
		m.socket = s
		m.mu.Unlock()
		done, stop := context.WithCancel(ctx)
		var asking sync.WaitGroup
		asking.Go(func() { m.rule(done, s, calm) })
		for {
			p, err := s.hear(ctx)
			if err != nil {
				break
			}
			m.mind(t, p)
		}
		stop()
		asking.Wait()
		_ = s.CloseNow()
		m.mu.Lock()
		m.socket, m.host = nil, false
		m.mu.Unlock()
		if s = m.comeBack(ctx, t); s == nil {
			return
		}
	}
	_ = s.CloseNow()
}

// mind takes note of a message.
func (m *member) mind(t *testing.T, p *roomspb.Payload) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch p.Flag {
	case roomspb.FlagType_RESPONSE_ASSIGN_HOST:
		m.host = true
	case roomspb.FlagType_RESPONSE_BEGIN_HOST_MIGRATE:
		m.host = false
	case roomspb.FlagType_RESPONSE_LIST:
		m.list = new(roomspb.ClientList)
		if err := proto.Unmarshal(p.Data, m.list); err != nil {
			t.Errorf("client %d: %v", m.id, err)
		}
	}
}

// rule has the member, while it is host, make requests about others.
func (m *member) rule(ctx context.Context, s *socket, calm func() bool) {
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		m.mu.Lock()
		host := m.host
		m.mu.Unlock()
		target := m.rng.Int32N(members)
		switch {
		case !host || calm():
		case m.rng.IntN(4) == 0:
			_ = s.ask(ctx, roomspb.FlagType_REQUEST_KICK, &roomspb.KickRequest{ClientID: target}) // a failure ends the reading too
		default:
			_ = s.ask(ctx, roomspb.FlagType_REQUEST_GRANT_HOST, &roomspb.GrantHostRequest{HostID: target})
		}
	}
}

// comeBack tries all nodes until one takes the member; nil when ctx ends.
func (m *member) comeBack(ctx context.Context, t *testing.T) *socket {
	for turn := m.rng.IntN(len(m.nodes)); ctx.Err() == nil; turn++ {
		s, err := m.nodes[turn%len(m.nodes)].dial(ctx)
		if err != nil {
			pause(ctx)
			continue
		}
		who, err := s.enter(ctx, roomspb.FlagType_REQUEST_RECONNECT,
			&roomspb.RejoinRoomRequest{RoomID: m.room.ID, RoomSecret: m.room.Secret, ClientID: m.id, ClientSecret: m.secret})
		if err == nil {
			if who.ID != m.id {
				t.Errorf("client %d came back as %d", m.id, who.ID)
			}
			m.mu.Lock()
			m.secret, m.back = who.Secret, m.back+1
			m.mu.Unlock()
			return s
		}
		if no, ok := errors.AsType[refusal](err); ok && no.Code == 400 && !strings.Contains(no.Message, "the client is connected") {
			t.Errorf("client %d may not come back: %v", m.id, no)
		}
		_ = s.CloseNow()
		pause(ctx)
	}
	return nil
}

func pause(ctx context.Context) {
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

const (
	// members are the clients of the room of TestFleetHasOneHost.
	members = 6
	// hostBound is how long a room may be without a host after a node died.
	hostBound = 15 * time.Second
)

// Hosts make others host and kick them as fast as they can, and a node is killed: within
// 15 seconds there is a host again, and in the end all agree who.
func TestFleetHasOneHostWhateverRaces(t *testing.T) {
	nodes := startNodes(t, 3, relaytest.StartRedis(t).URL())
	room := nodes[0].call(t, http.MethodPost, "", map[string]int{"max_clients": members})
	ctx, cancel := context.WithCancel(t.Context())
	var living sync.WaitGroup
	defer living.Wait()
	defer cancel()
	var mu sync.Mutex
	quiet := false
	calm := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return quiet
	}
	rest := func(is bool) {
		mu.Lock()
		defer mu.Unlock()
		quiet = is
	}
	var all []*member
	for i := range members {
		s, err := nodes[i%len(nodes)].dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		who, err := s.enter(ctx, roomspb.FlagType_REQUEST_CONNECT, &roomspb.JoinRoomRequest{RoomID: room.ID, RoomSecret: room.Secret})
		if err != nil || who.ID != int32(i) {
			t.Fatalf("client %d: %v, %v", i, who, err)
		}
		m := &member{id: who.ID, secret: who.Secret, nodes: nodes, room: room, rng: rand.New(rand.NewPCG(7, uint64(i)))}
		m.host = s.hostings > 0
		all = append(all, m)
		living.Go(func() { m.live(ctx, t, s, calm) })
	}
	rng := rand.New(rand.NewPCG(8, 8))
	var why string
	defer func() {
		if t.Failed() {
			t.Logf("last: %s", why)
		}
	}()
	for round := range *kills {
		rest(false)
		relaytest.Eventually(t, "the host moves", func() bool { return all[1].comeBacks()+all[2].comeBacks() > 2*round })
		victim := nodes[rng.IntN(len(nodes))]
		victim.kill(t)
		killed := time.Now()
		relaytest.Eventually(t, "somebody alive is host", func() bool { return slices.ContainsFunc(all, (*member).isHost) })
		took := time.Since(killed)
		if took > hostBound {
			t.Errorf("there was no host for %v", took)
		}
		rest(true)
		victim.start(t)
		relaytest.Eventually(t, "all agree on who is there and who is host", func() bool {
			why = disagree(ctx, all)
			return why == ""
		})
		t.Logf("round %d: a host after %v, all agree after %v", round+1, took, time.Since(killed))
	}
}

func (m *member) isHost() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.host
}

func (m *member) comeBacks() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.back
}

// disagree asks everybody who is there, waits for a moment, and tells what does not fit.
func disagree(ctx context.Context, all []*member) string {
	for _, m := range all {
		m.mu.Lock()
		m.list = nil
		s := m.socket
		m.mu.Unlock()
		if s == nil {
			return fmt.Sprintf("client %d has no connection", m.id)
		}
		_ = s.ask(ctx, roomspb.FlagType_REQUEST_LIST, nil) // who gets no list is found below
	}
	pause(ctx)
	host := int32(-1)
	for _, m := range all {
		if m.isHost() {
			if host >= 0 {
				return fmt.Sprintf("%d and %d take themselves for host", host, m.id)
			}
			host = m.id
		}
	}
	for _, m := range all {
		m.mu.Lock()
		list := m.list
		m.mu.Unlock()
		if list == nil || len(list.List) != members {
			return fmt.Sprintf("client %d is told of %v", m.id, list)
		}
		for _, c := range list.List {
			if c.Host != (c.ID == host) {
				return fmt.Sprintf("client %d is told that %v, and %d takes itself for host", m.id, c, host)
			}
		}
	}
	return ""
}
