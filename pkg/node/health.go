package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"runtime"
	"runtime/debug"
)

// Version is set at build time with -ldflags "-X parley/pkg/node.Version=...".
var Version = "dev"

// VersionText describes this build in one line.
func VersionText() string {
	revision := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value
			}
		}
	}
	return fmt.Sprintf("parley %s%s %s %s/%s", Version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// internalMux is what operators see.
func (n *Node) internalMux() http.Handler {
	mux := newRoutes()
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", n.serveReady)
	mux.Handle("/metrics", n.metrics.handler())
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"version": Version, "go": runtime.Version(), "node": n.cfg.NodeName, "id": n.id})
	})
	mux.HandleFunc("/fleet", n.serveFleet)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// Ready tells whether new clients are welcome; the error says why not.
func (n *Node) Ready() error {
	if n.draining.Load() {
		return errDraining
	}
	return n.bus.Ready()
}

// errNotReady is what clients are told of what is wrong between a node and Redis.
var errNotReady = errors.New("redis does not answer")

// serveHealth is serveReady for clients, who are told no addresses.
func (n *Node) serveHealth(w http.ResponseWriter, _ *http.Request) {
	err := n.Ready()
	if err != nil && !errors.Is(err, errDraining) {
		err = errNotReady
	}
	serveReadiness(w, err)
}

// serveReady answers 200 or 503 with the reason.
func (n *Node) serveReady(w http.ResponseWriter, _ *http.Request) { serveReadiness(w, n.Ready()) }

func serveReadiness(w http.ResponseWriter, err error) {
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}
