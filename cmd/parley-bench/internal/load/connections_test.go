package load

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"parley/cmd/parley-bench/internal/host"
	"parley/cmd/parley-bench/internal/probe"
	"parley/cmd/parley-bench/internal/textotest"
)

func TestIdleHoldsAndCompares(t *testing.T) {
	t.Parallel()
	s := textotest.Start(nil, nil)
	looks := 0
	metrics := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		// Three looks: before, just opened, at the end; 20 connections.
		looks++
		_, _ = w.Write([]byte([]string{"",
			"go_goroutines 10\nprocess_resident_memory_bytes 1000000\nprocess_cpu_seconds_total 1\n",
			"go_goroutines 60\nprocess_resident_memory_bytes 1400000\nprocess_cpu_seconds_total 2\n",
			"go_goroutines 50\nprocess_resident_memory_bytes 1200000\nprocess_cpu_seconds_total 2.5\n"}[looks]))
	}))
	defer metrics.Close()
	d := Idle{Fleet: fleetOf(t, s), Connections: 20, Hold: 100 * time.Millisecond,
		Probe: probe.Probe{Metrics: []string{metrics.URL}, RedisPIDs: []int{os.Getpid()}}}
	r, err := d.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Opened != 20 || r.Ended != 0 || len(r.Failures()) != 0 || r.Greeted == nil || r.Greeted.Count != 20 || r.Seconds < 0.1 {
		t.Errorf("%+v", r)
	}
	if *r.Goroutines != 2 || *r.Memory != 10000 || *r.MemoryJustOpened != 20000 || r.RedisMemory == nil || *r.ServerRSS != 1200000 {
		t.Errorf("goroutines %v, memory %v, just opened %v", *r.Goroutines, *r.Memory, *r.MemoryJustOpened)
	}
	if want := 0.5 / r.Seconds; *r.ServerCores < want*0.99 || *r.ServerCores > want*1.01 {
		t.Errorf("%v cores, want %v", *r.ServerCores, want)
	}
}

func TestIdleNamesWhatFailed(t *testing.T) {
	t.Parallel()
	s := textotest.Start(nil, func(n int) int {
		switch n % 4 {
		case 1:
			return 429
		case 2:
			return 1
		}
		return 0
	})
	d := Idle{Fleet: fleetOf(t, s), Connections: 20, Hold: 10 * time.Millisecond}
	r, err := d.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Opened != 10 || r.Failed["refused with HTTP 429"] != 5 || r.Failed["greeted with EBROKER"] != 5 || r.Example == "" {
		t.Errorf("%d opened, failed %v, %s", r.Opened, r.Failed, r.Example)
	}
	if got := strings.Join(r.Failures(), ""); !strings.HasPrefix(got, "10 of 20 connections could not be opened: 5 ") {
		t.Errorf("failures %s", got)
	}
	d.Fleet = fleetOf(t, textotest.Start(nil, func(int) int { return 503 }))
	if _, err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "none of 20") || !strings.Contains(err.Error(), "503") {
		t.Errorf("none: %v", err)
	}
}

func TestIdleSeesConnectionsEnd(t *testing.T) {
	t.Parallel()
	s := textotest.Start(nil, nil)
	d := Idle{Fleet: fleetOf(t, s), Connections: 5, Hold: time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d.Progress = func(line string) {
		switch {
		case strings.HasSuffix(line, "holding 5"):
			s.HangUp()
		case strings.HasSuffix(line, "holding 0"):
			cancel()
		}
	}
	r, err := d.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if r.Opened != 5 || r.Ended != 5 || len(r.Failures()) != 1 {
		t.Errorf("%d of %d ended: %v, %q", r.Ended, r.Opened, r.EndedBy, r.Failures())
	}
}

func TestConnectCountsAndTimes(t *testing.T) {
	t.Parallel()
	s := textotest.Start(nil, func(n int) int {
		if n%10 == 9 {
			return 429
		}
		return 0
	})
	d := Connect{Fleet: fleetOf(t, s), Connections: 100}
	d.Sources = []net.IP{net.IPv4(127, 0, 0, 2), net.IPv4(127, 0, 0, 3)}
	r, err := d.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Attempts != 100 || r.Greeted != 90 || r.Failed["refused with HTTP 429"] != 10 || len(r.Unclean) != 0 {
		t.Errorf("%+v", r)
	}
	if r.Total.Count != 90 || r.TCP.Count != 90 || r.Upgrade.Count != 90 || r.Greeting.Count != 90 || r.Close.Count != 90 || r.TLS != nil {
		t.Errorf("total %+v, close %+v, TLS %+v", r.Total, r.Close, r.TLS)
	}
	if r.Total.P50 < r.TCP.P50 || r.PerSecond <= 0 || r.Cost.OwnCPU == nil {
		t.Errorf("p50 %v, of it TCP %v; %v/s", r.Total.P50, r.TCP.P50, r.PerSecond)
	}
	if got := r.Failures(); len(got) != 1 || got[0] != "10 of 100 connections failed: 10 refused with HTTP 429" {
		t.Errorf("failures %q", got)
	}
}

func TestConnectAtARateAndForATime(t *testing.T) {
	t.Parallel()
	s := textotest.Start(nil, nil)
	d := Connect{Fleet: fleetOf(t, s), Duration: 300 * time.Millisecond, Rate: 100}
	r, err := d.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// 30 are due before the end; those that a busy machine begins later than
	// that are not begun.
	if r.Attempts < 1 || r.Attempts > 30 || r.Greeted != r.Attempts {
		t.Errorf("%d attempts at 100/s in 0.3 s, %d greeted", r.Attempts, r.Greeted)
	}
}

func TestALimitInTheWayIsNamedBeforehand(t *testing.T) {
	t.Parallel()
	s := textotest.Start(nil, nil)
	d := Idle{Fleet: fleetOf(t, s), Connections: 1 << 30, Hold: time.Second}
	_, err := d.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "open files") {
		t.Errorf("%v", err)
	}
	if err := host.RaiseFiles(100); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
