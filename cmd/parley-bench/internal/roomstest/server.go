// Package roomstest is a tiny server of relay rooms that does with each broadcast, and
// with its hosts, what a test tells it to, right or wrong, and keeps count: a load
// generator proves itself by finding exactly that. Its codec is the generated one.
package roomstest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	pb "parley/pkg/protocol/rooms/roomspb"
)

// Fate is what happens to a broadcast, or to its delivery to the last client.
type Fate int

// The fates. All but Deliver are wrong or a refusal.
const (
	Deliver   Fate = iota
	Drop           // not delivered to the last client
	DropAll        // delivered to nobody
	Duplicate      // delivered twice to the last client
	Swap           // delivered to the last client after the next one
	Alter          // delivered to the last client with other data
	Malformed      // delivered, and something that is no payload to the last client
	Refuse         // answered with 429, delivered to nobody
	Hangup         // delivered, and the last client's connection is closed with 1012
	fates
)

// Sin is what the server does wrong with its hosts and clients.
type Sin int

// The sins.
const (
	None      Sin = iota
	TwoHosts      // who comes back is made host, and the other one stays it
	ShowStale     // after the host has moved, the last broadcast of the former one is shown
	ReuseIDs      // a new client gets the id of one that has gone
	NoHost        // when the host leaves, nobody becomes it
)

// Server is a running server. Its URL is in the embedded httptest.Server.
type Server struct {
	*httptest.Server
	Token string // that the API wants; set before its first use
	Sin   Sin    // the same

	fate    func(n int) Fate
	closing sync.WaitGroup // connections that are being closed

	mu         sync.Mutex
	rooms      map[int32]*room
	made       int32
	broadcasts int
	counts     [fates]int
}

type room struct {
	id, secret, max int32
	host            int32
	clients         []*client // all that ever came, by id
	last            []byte    // broadcast
}

type client struct {
	id, secret int32
	ws         *websocket.Conn // nil: it has gone
	held       []byte          // a message that waits for the next one
}

const noHost = -1

// Start runs a server. fate decides about the n-th broadcast, from 0; nil: all is well.
// The caller closes the server.
func Start(fate func(n int) Fate) *Server {
	s := &Server{fate: fate, rooms: map[int32]*room{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/api/rooms", s.create)
	mux.HandleFunc("DELETE /v1/api/rooms/{id}", s.remove)
	mux.HandleFunc("/v1/websocket", s.serve)
	s.Server = httptest.NewServer(mux)
	return s
}

// Close ends the server, and what it has begun.
func (s *Server) Close() {
	s.HangUp()
	s.Server.Close()
	s.closing.Wait()
}

// Count returns how many broadcasts had this fate.
func (s *Server) Count(f Fate) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(s.counts[f])
}

// Rooms returns how many there are.
func (s *Server) Rooms() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rooms)
}

// HangUp ends all connections at once, without a close frame.
func (s *Server) HangUp() { s.cut(func(*room, *client) bool { return true }) }

// HangUpHosts ends the connections of all hosts.
func (s *Server) HangUpHosts() {
	s.cut(func(r *room, c *client) bool { return c.id == r.host })
}

func (s *Server) cut(which func(*room, *client) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rooms {
		for _, c := range r.clients {
			if c.ws != nil && which(r, c) {
				_ = c.ws.CloseNow()
			}
		}
	}
}

func (s *Server) allowed(w http.ResponseWriter, r *http.Request) bool {
	if s.Token == "" || r.Header.Get("Authorization") == "Bearer "+s.Token {
		return true
	}
	answer(w, http.StatusUnauthorized, `"message":"a token is needed"`)
	return false
}

func answer(w http.ResponseWriter, status int, rest string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if rest != "" {
		rest += ","
	}
	fmt.Fprintf(w, `{%s"code":%d}`, rest, status)
}

func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	var wish struct {
		Max int32 `json:"max_clients"`
	}
	if !s.allowed(w, r) {
		return
	}
	if json.NewDecoder(r.Body).Decode(&wish) != nil || wish.Max < 1 {
		answer(w, http.StatusBadRequest, `"message":"max_clients is wrong"`)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	made := &room{id: s.made * 1000, secret: s.made * 77, max: wish.Max, host: noHost}
	s.rooms[made.id] = made
	answer(w, http.StatusOK, fmt.Sprintf(`"data":{"id":%d,"secret":%d,"max_clients":%d,"current_clients":0,"room_status":"RUNNING"}`, made.id, made.secret, made.max))
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	if !s.allowed(w, r) {
		return
	}
	id, _ := strconv.Atoi(r.PathValue("id"))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rooms[int32(id)] == nil {
		answer(w, http.StatusNotFound, `"message":"no such room"`)
		return
	}
	delete(s.rooms, int32(id))
	answer(w, http.StatusOK, "")
}

// write sends a payload. A failure shows to the connection's own reader.
func (c *client) write(ctx context.Context, flag pb.FlagType, data proto.Message) {
	p := &pb.Payload{Flag: flag}
	if data != nil {
		p.Data = must(proto.Marshal(data))
	}
	_ = c.ws.Write(ctx, websocket.MessageBinary, must(proto.Marshal(p)))
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err) // what was read from the wire or made here always encodes
	}
	return b
}

func (r *room) connected() (all []*client) {
	return slices.DeleteFunc(slices.Clone(r.clients), func(c *client) bool { return c.ws == nil })
}

func (r *room) at(id int32) *client {
	for _, c := range r.connected() {
		if c.id == id {
			return c
		}
	}
	return nil
}

// serve is a connection.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ctx := context.WithoutCancel(r.Context())
	me, in := &client{ws: ws}, (*room)(nil)
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if in != nil {
			s.leave(ctx, in, me)
		}
	}()
	for {
		_, frame, err := ws.Read(ctx)
		if err != nil {
			return
		}
		var p pb.Payload
		s.mu.Lock()
		switch err := proto.Unmarshal(frame, &p); {
		case err != nil:
			me.write(ctx, pb.FlagType_RESPONSE_ERROR, &pb.Error{Code: 400, Message: "not a payload"})
		case in == nil:
			if joined, to := s.join(ctx, me, &p); to != nil {
				me, in = joined, to
			}
		default:
			s.handle(ctx, in, me, &p)
		}
		s.mu.Unlock()
	}
}

// join is called with mu held, as all that follow.
func (s *Server) join(ctx context.Context, me *client, p *pb.Payload) (*client, *room) {
	refuse := func(why string) (*client, *room) {
		me.write(ctx, pb.FlagType_RESPONSE_ERROR, &pb.Error{Code: 400, Message: why})
		return nil, nil
	}
	var wish pb.RejoinRoomRequest // its first fields are those of a JoinRoomRequest
	if err := proto.Unmarshal(p.Data, &wish); err != nil || p.Flag != pb.FlagType_REQUEST_CONNECT && p.Flag != pb.FlagType_REQUEST_RECONNECT {
		return refuse("join a room first")
	}
	r := s.rooms[wish.RoomID]
	if r == nil || r.secret != wish.RoomSecret {
		return refuse("no such room")
	}
	if len(r.connected()) >= int(r.max) {
		return refuse("the room is full")
	}
	if p.Flag == pb.FlagType_REQUEST_RECONNECT {
		i := slices.IndexFunc(r.clients, func(c *client) bool { return c.id == wish.ClientID && c.secret == wish.ClientSecret })
		if i < 0 {
			return refuse("no such client")
		}
		if r.clients[i].ws != nil {
			return refuse("the client is connected")
		}
		r.clients[i].ws = me.ws
		me = r.clients[i]
	} else {
		me.id = int32(len(r.clients))
		if s.Sin == ReuseIDs && me.id > 2 {
			me.id = 2
		}
		me.secret = 7 + me.id
		r.clients = append(r.clients, me)
	}
	me.write(ctx, pb.FlagType_RESPONSE_CONNECT, &pb.Client{ID: me.id, Secret: me.secret})
	switch {
	case r.host == noHost:
		r.host = me.id
		me.write(ctx, pb.FlagType_RESPONSE_ASSIGN_HOST, nil)
	case s.Sin == TwoHosts && p.Flag == pb.FlagType_REQUEST_RECONNECT:
		me.write(ctx, pb.FlagType_RESPONSE_ASSIGN_HOST, &pb.FinishHostMigrationResponse{HostID: me.id})
	}
	if host := r.at(r.host); host != nil {
		host.write(ctx, pb.FlagType_RESPONSE_CLIENT_CONNECT, &pb.SanitisedClient{ID: me.id, Host: me == host})
	}
	return me, r
}

func (s *Server) leave(ctx context.Context, r *room, me *client) {
	me.ws = nil
	left := r.connected()
	if r.host == me.id {
		r.host = noHost
		if len(left) > 0 && s.Sin != NoHost {
			slices.SortFunc(left, func(a, b *client) int { return int(a.id - b.id) })
			s.move(ctx, r, left, left[0])
		}
	}
	if host := r.at(r.host); host != nil {
		host.write(ctx, pb.FlagType_RESPONSE_CLIENT_DISCONNECT, &pb.SanitisedClient{ID: me.id})
	}
}

func (s *Server) move(ctx context.Context, r *room, left []*client, host *client) {
	finish := &pb.FinishHostMigrationResponse{HostID: host.id}
	for _, c := range left {
		c.write(ctx, pb.FlagType_RESPONSE_BEGIN_HOST_MIGRATE, nil)
	}
	r.host = host.id
	host.write(ctx, pb.FlagType_RESPONSE_ASSIGN_HOST, finish)
	for _, c := range left {
		c.write(ctx, pb.FlagType_RESPONSE_FINISH_HOST_MIGRATE, finish)
		if s.Sin == ShowStale && r.last != nil {
			_ = c.ws.Write(ctx, websocket.MessageBinary, r.last)
		}
	}
}

func (s *Server) handle(ctx context.Context, r *room, me *client, p *pb.Payload) {
	refuse := func(code int32, why string) {
		me.write(ctx, pb.FlagType_RESPONSE_ERROR, &pb.Error{Code: code, Message: why})
	}
	switch p.Flag {
	case pb.FlagType_REQUEST_LIST:
		list := &pb.ClientList{}
		for _, c := range r.connected() {
			list.List = append(list.List, &pb.SanitisedClient{ID: c.id, Host: c.id == r.host})
		}
		me.write(ctx, pb.FlagType_RESPONSE_LIST, list)
	case pb.FlagType_REQUEST_GRANT_HOST:
		var wish pb.GrantHostRequest
		if err := proto.Unmarshal(p.Data, &wish); err != nil || me.id != r.host || r.at(wish.HostID) == nil {
			refuse(400, "not granted")
			return
		}
		s.move(ctx, r, r.connected(), r.at(wish.HostID))
	case pb.FlagType_REQUEST_KICK:
		var wish pb.KickRequest
		if err := proto.Unmarshal(p.Data, &wish); err != nil || me.id != r.host || r.at(wish.ClientID) == nil || me.id == wish.ClientID {
			refuse(400, "not kicked")
			return
		}
		ws := r.at(wish.ClientID).ws
		s.closing.Go(func() { _ = ws.Close(4002, "kicked") })
		me.write(ctx, pb.FlagType_RESPONSE_KICK, &pb.KickResponse{ClientID: wish.ClientID})
	case pb.FlagType_REQUEST_RELAY_MESSAGE:
		var relay pb.Relay
		if err := proto.Unmarshal(p.Data, &relay); err != nil {
			refuse(400, "not a relay")
			return
		}
		s.relay(ctx, r, me, &relay, p.Data, refuse)
	default:
		refuse(400, "not understood")
	}
}

func (s *Server) relay(ctx context.Context, r *room, me *client, relay *pb.Relay, data []byte, refuse func(int32, string)) {
	frame := must(proto.Marshal(&pb.Payload{Flag: pb.FlagType_RESPONSE_RELAY_MESSAGE, Data: data}))
	if relay.Type == pb.RelayType_HOST {
		if host := r.at(r.host); host != nil && host != me {
			_ = host.ws.Write(ctx, websocket.MessageBinary, frame)
			return
		}
		refuse(400, "no host")
		return
	}
	if me.id != r.host {
		refuse(400, "not the host")
		return
	}
	fate := Deliver
	if s.fate != nil {
		fate = s.fate(s.broadcasts)
	}
	s.broadcasts++
	s.counts[fate]++
	s.pass(ctx, r, me, fate, relay, frame, refuse)
}

func (s *Server) pass(ctx context.Context, r *room, me *client, fate Fate, relay *pb.Relay, frame []byte, refuse func(int32, string)) {
	switch fate {
	case DropAll:
		return
	case Refuse:
		refuse(429, "slow down")
		return
	}
	r.last = frame
	others := slices.DeleteFunc(r.connected(), func(c *client) bool { return c == me })
	if len(others) == 0 {
		return
	}
	last := others[len(others)-1]
	for _, c := range others[:len(others)-1] {
		_ = c.ws.Write(ctx, websocket.MessageBinary, frame)
	}
	out := [][]byte{frame}
	switch fate {
	case Drop:
		out = nil
	case Duplicate:
		out = [][]byte{frame, frame}
	case Swap:
		if last.held == nil {
			last.held = frame
			return
		}
	case Alter:
		relay.Data[len(relay.Data)-1] ^= 1
		out = [][]byte{must(proto.Marshal(&pb.Payload{Flag: pb.FlagType_RESPONSE_RELAY_MESSAGE, Data: must(proto.Marshal(relay))}))}
	case Malformed:
		out = append(out, []byte{0xff})
	}
	if last.held != nil {
		out = append(out, last.held)
		last.held = nil
	}
	for _, b := range out {
		_ = last.ws.Write(ctx, websocket.MessageBinary, b)
	}
	if fate == Hangup {
		// It waits for the peer's answer, whose read of it does not need mu.
		ws := last.ws
		s.closing.Go(func() { _ = ws.Close(1012, "restart") })
	}
}
