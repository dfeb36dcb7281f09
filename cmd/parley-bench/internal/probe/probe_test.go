package probe

import (
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestProcesses(t *testing.T) {
	pid := os.Getpid()
	p := Probe{ServerPIDs: []int{pid, pid}, RedisPIDs: []int{pid}}
	s, err := p.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.ServerRSS == nil || s.RedisRSS == nil || *s.ServerRSS < *s.RedisRSS*3/2 {
		t.Errorf("two processes use %v bytes, one of them %v", s.ServerRSS, s.RedisRSS)
	}
	if s.ServerCPU == nil || s.RedisCPU == nil || s.Own <= 0 {
		t.Errorf("CPU times are missing: %+v", s)
	}
	if s.Goroutines != nil {
		t.Errorf("%d goroutines, though nobody was asked", *s.Goroutines)
	}
}

func TestPages(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("# HELP go_goroutines Number.\n# TYPE go_goroutines gauge\ngo_goroutines 42\n" +
			"process_cpu_seconds_total 1.5\nprocess_resident_memory_bytes 3.1457280e+07\nx{a=\"b\"} 1\n"))
	})
	mux.HandleFunc("/debug/pprof/goroutine", pprof.Handler("goroutine").ServeHTTP)
	server := httptest.NewServer(mux)
	defer server.Close()

	s, err := (&Probe{Metrics: []string{server.URL + "/metrics", server.URL + "/metrics"}}).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if *s.ServerCPU != 3*time.Second || *s.ServerRSS != 60<<20 || *s.Goroutines != 84 {
		t.Errorf("two nodes: CPU %v, %d bytes, %d goroutines", *s.ServerCPU, *s.ServerRSS, *s.Goroutines)
	}
	for _, base := range []string{server.URL, server.URL + "/", server.URL + "/debug/pprof/"} {
		s, err := (&Probe{Pprof: []string{base}}).Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n, have := *s.Goroutines, int64(runtime.NumGoroutine()); n < 2 || n > 2*have+20 {
			t.Errorf("%s: %d goroutines, the process itself sees %d", base, n, have)
		}
	}
}

func TestWhatCannotBeReadIsMissingAndNamed(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	p := Probe{ServerPIDs: []int{os.Getpid(), 1 << 30}, RedisPIDs: []int{os.Getpid()},
		Metrics: []string{server.URL + "/metrics"}, Pprof: []string{server.URL}}
	s, err := p.Read(t.Context())
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"1073741824", "/metrics answers 404", "goroutine?debug=1 answers 404"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %q: %v", part, err)
		}
	}
	if s.ServerCPU != nil || s.ServerRSS != nil || s.Goroutines != nil || s.RedisCPU == nil {
		t.Errorf("half a sum is no sum: %+v", s)
	}
}
