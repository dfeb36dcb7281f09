// Parley is a node of the relay fleet. See `parley --help`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"parley/pkg/node"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	args := os.Args[1:]
	command := "serve"
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		command, args = args[0], args[1:]
	}
	os.Exit(run(command, args))
}

func run(command string, args []string) int {
	switch command {
	case "serve", "healthcheck":
	case "version":
		fmt.Println(node.VersionText())
		return 0
	case "help":
		node.WriteHelp(os.Stdout)
		return 0
	default:
		fmt.Fprintf(os.Stderr, "parley: there is no command %q; the commands are serve, healthcheck and version. See parley --help\n", command)
		return exitUsage
	}
	cfg, err := node.ParseConfig(args, os.Getenv, os.Stdout)
	if errors.Is(err, node.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "parley: wrong settings:\n%v\nSee parley --help\n", err)
		return exitUsage
	}
	if command == "healthcheck" {
		return healthcheck(cfg)
	}
	return serve(cfg)
}

func serve(cfg node.Config) int {
	log := newLog(os.Stderr, cfg)
	n, err := node.New(cfg, log)
	if err != nil {
		fmt.Fprintf(os.Stderr, "parley: %v\n", err)
		return exitFailed
	}
	fmt.Printf("Parley %s serves at http://%s\n", node.Version, openAddress(n.Addr().String()))
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		s := <-signals
		log.Info("stopping; a second signal exits at once, without a word to clients", "signal", s.String())
		stop()
		<-signals
		os.Exit(exitFailed)
	}()
	if err := n.Run(ctx, nil); err != nil {
		log.Error("node failed", "error", err)
		return exitFailed
	}
	return 0
}

// openAddress is how a browser on this machine reaches a listener.
func openAddress(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

func newLog(w io.Writer, cfg node.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// healthcheck asks the node with these settings whether it is ready.
func healthcheck(cfg node.Config) int {
	addr, path := cfg.InternalAddr, "/readyz"
	if addr == "" {
		addr, path = cfg.Listen, "/healthz"
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		fmt.Fprintf(os.Stderr, "parley: %v\n", err)
		return exitUsage
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	client := &http.Client{Timeout: 2 * time.Second}
	r, err := client.Get("http://" + net.JoinHostPort(host, port) + path)
	if err != nil {
		fmt.Fprintf(os.Stderr, "parley: %v\n", err)
		return exitFailed
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<10))
	fmt.Printf("%s", body)
	if r.StatusCode != http.StatusOK {
		return exitFailed
	}
	return 0
}
