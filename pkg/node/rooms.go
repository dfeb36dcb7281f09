package node

import (
	"context"
	"math"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"parley/pkg/conn"
	"parley/pkg/protocol/rooms"
	"parley/pkg/redisbus"
)

// roomsPart is the relay rooms, with all that only they need.
type roomsPart struct {
	state  *redisbus.Rooms
	server *rooms.Server
	api    http.Handler

	stop context.CancelFunc
	own  sync.WaitGroup
}

// newRooms makes the node's relay rooms.
func (n *Node) newRooms(sockets *conn.Sockets) *roomsPart {
	most := int64(n.cfg.RoomsMaxClients)
	if most == 0 {
		most = math.MaxInt64 >> 16 // which Redis counts exactly
	}
	state := redisbus.NewRooms(n.bus, n.fleet, redisbus.RoomsOptions{
		Max:       most,
		TTL:       n.cfg.RoomTTL,
		Retention: rooms.Retention(),
		Log:       n.log,
	})
	p := &roomsPart{state: state, stop: func() {}}
	p.server = rooms.New(rooms.Config{
		MaxMessageBytes: n.cfg.MaxMessageBytes,
		Rate:            n.cfg.Rate,
		Log:             n.log,
	}, rooms.Deps{
		Sockets:   sockets,
		Hub:       n.hub,
		Publisher: n.bus,
		Seats:     state,
	})
	state.OnLost(p.server.SeatsLost)
	state.OnGone(p.server.RoomGone)
	p.api = rooms.NewAPI(rooms.APIConfig{Rooms: state, Token: n.cfg.RoomsAPIToken, Origins: n.cfg.AllowedOrigins, Proxies: n.cfg.TrustedProxies, Log: n.log})
	return p
}

// warnOfRooms tells the log when anybody may manage rooms.
func (n *Node) warnOfRooms() {
	if n.cfg.RoomsAPIToken == "" && n.redis == nil {
		n.log.Warn("no token is set: whoever reaches this fleet may make relay rooms, see their secrets and close them", "setting", "--rooms-api-token")
	}
}

// collectors are the part's figures.
func (p *roomsPart) collectors() []prometheus.Collector {
	return append(p.state.Metrics().Collectors(), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "parley_rooms", Help: "Relay rooms that have clients on this node.",
	}, func() float64 { return float64(p.server.Rooms()) }))
}

// run starts what rooms need besides their clients.
func (p *roomsPart) run() {
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.own.Go(func() { _ = p.state.Run(ctx) }) // it gives up all seats, or they are reaped by others
}

// end stops it when the last client has gone.
func (p *roomsPart) end() {
	p.server.Close()
	p.stop()
	p.own.Wait()
}

// mount adds the endpoints of rooms.
func (p *roomsPart) mount(mux *routes) {
	mux.HandleFunc(rooms.SocketPath, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			p.server.ServeHTTP(w, r)
		} else {
			p.api.ServeHTTP(w, r)
		}
	})
	mux.Handle("/v1/", p.api)
	mux.Handle("/v1", p.api) // lest it be redirected
}
