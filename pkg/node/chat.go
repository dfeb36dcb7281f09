package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/pkg/account"
	"parley/pkg/archive"
	"parley/pkg/conn"
	"parley/pkg/protocol/chat"
	"parley/pkg/redisbus"
	"parley/pkg/relay"
	"parley/pkg/sqlstore"
)

const (
	// openTimeout bounds the wait for the database to be made ready at the start: its
	// migrations may take long on a large one.
	openTimeout = 10 * time.Minute
	// farewell bounds what a node that ends still does for the chat: it moves what its
	// own Redis holds into the database.
	farewell = 10 * time.Second
	// pingTimeout bounds a look at whether the database answers.
	pingTimeout = 2 * time.Second
)

// chatPart is accounts and chat, with all that only they need.
type chatPart struct {
	accounts *account.Accounts
	values   *redisbus.Values
	database *sqlstore.Store
	server   *chat.Server
	api      http.Handler
	mover    *archive.Mover
	roster   *redisbus.Roster

	stop context.CancelFunc
	own  sync.WaitGroup
}

// newChat makes the node's chat; nil when there is no database for it.
func (n *Node) newChat(sockets *conn.Sockets) (*chatPart, error) {
	url := n.cfg.DatabaseURL
	if url == "" && n.redis == nil {
		return nil, nil
	}
	if url == "" {
		path, err := sqlstore.DefaultPath()
		if err != nil {
			return nil, fmt.Errorf("--database-url: %w", err)
		}
		url = "sqlite:" + path
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	store, err := sqlstore.Open(ctx, sqlstore.Options{URL: url, Log: n.log, Alone: n.redis != nil})
	if err != nil {
		return nil, fmt.Errorf("--database-url: %w", err)
	}
	values := n.bus.Values()
	p := &chatPart{database: store, values: values}
	p.accounts = account.New(account.Config{
		Users:              store.Users(),
		Values:             values,
		Meter:              values,
		Publisher:          n.bus,
		FailuresPerAccount: n.cfg.LoginFailuresPerAccount,
		FailuresPerAddress: n.cfg.LoginFailuresPerAddress,
		Log:                n.log,
	})
	history := archive.NewHistory(n.bus, store.Archive())
	length := int64(n.cfg.ChatRoomLength)
	if n.redis != nil {
		length = 0 // what this node has in memory ends with it
	}
	var topics []relay.Topic
	for _, r := range n.cfg.ChatRooms {
		topics = append(topics, r.Topic())
	}
	p.mover = archive.NewMover(archive.Config{
		Journal: n.bus,
		Archive: store.Archive(),
		Claims:  n.fleet,
		Node:    n.id,
		Topics:  topics,
		Length:  length,
		Log:     n.log,
	})
	p.roster = redisbus.NewRoster(n.bus, n.fleet, n.log)
	p.server = chat.New(chat.Config{
		Rooms:           n.cfg.ChatRooms,
		RoomLength:      int64(n.cfg.ChatRoomLength),
		MaxMessageBytes: n.cfg.MaxMessageBytes,
		Rate:            n.cfg.Rate,
		Log:             n.log,
	}, chat.Deps{
		Sockets:   sockets,
		Hub:       n.hub,
		Journal:   n.bus,
		History:   history,
		Publisher: n.bus,
		Roster:    p.roster,
		Accounts:  p.accounts,
	})
	p.api = chat.NewAPI(chat.APIConfig{Accounts: p.accounts, Proxies: n.cfg.TrustedProxies, Origins: n.cfg.AllowedOrigins, Log: n.log})
	return p, nil
}

// collectors are the part's figures.
func (p *chatPart) collectors() []prometheus.Collector {
	return append(slices.Concat(p.accounts.Metrics().Collectors(), p.mover.Metrics().Collectors()),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_database_up", Help: "1 when the database of accounts and archive answers.",
		}, func() float64 {
			ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
			defer cancel()
			if p.database.Ping(ctx) == nil {
				return 1
			}
			return 0
		}))
}

// run starts what the chat needs besides its clients.
func (p *chatPart) run() {
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.own.Go(func() { _ = p.roster.Run(ctx) }) // it leaves all members, or they are taken back by others
	p.own.Go(func() { _ = p.mover.Run(ctx) })  // nil
}

// saveChat has what this node alone has in memory in the database.
func (n *Node) saveChat() {
	if n.chat == nil || n.redis == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if err := n.chat.mover.MoveAll(ctx); err != nil {
		n.log.Warn("not all messages of the chat are in the database, and the rest ends with this node", "error", err)
	}
}

// endChat stops it when the last client has gone. If moveAll is set, all messages are in
// the database then.
func (n *Node) endChat(moveAll bool) {
	p := n.chat
	if p == nil {
		return
	}
	p.server.Close()
	p.stop()
	p.own.Wait()
	if moveAll {
		n.saveChat()
	}
}

// mountChat adds the chat's endpoints.
func (n *Node) mountChat(mux *routes) {
	if n.chat == nil {
		mux.HandleFunc("/api/", serveNoAccounts)
		return
	}
	mux.Handle("/api/ws", n.chat.server)
	mux.Handle("/api/", n.chat.api)
}

// serveNoAccounts answers for a fleet without a database.
func serveNoAccounts(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusServiceUnavailable)
	_ = json.NewEncoder(w).Encode(map[string]string{"id": "UNAVAILABLE", "message": errNoDatabase.Error()})
}

// warnOfDatabase tells the log of a database that only nodes of this machine share, or
// that there is none.
func (n *Node) warnOfDatabase() {
	if n.chat == nil {
		n.log.Warn("no database is set: nobody can sign up or in, and the chat answers 503", "setting", "--database-url")
	}
	if n.redis == nil && strings.HasPrefix(n.cfg.DatabaseURL, "sqlite:") {
		n.log.Warn("the database is a file: all nodes of the fleet must be on this machine", "setting", "--database-url")
	}
}

// close ends what newChat has started, whether run was called or not. No client is
// served any more.
func (p *chatPart) close(log *slog.Logger) {
	p.server.Close()
	if err := p.database.Close(); err != nil {
		log.Warn("closing the database", "error", err)
	}
}
