// Package probe measures what servers cost while they are under load: CPU time
// and memory by process id from /proc, the same and goroutines from a /metrics
// page with Prometheus's usual process_* and go_* metrics, goroutines from
// net/http/pprof.
package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/host"
)

// Probe says where to look. Fixed after construction; any goroutine may read.
type Probe struct {
	ServerPIDs []int
	RedisPIDs  []int
	Metrics    []string // URLs of /metrics pages, one a node
	Pprof      []string // base URLs with /debug/pprof/ below them, one a node
}

// timeout bounds each question by HTTP.
const timeout = 10 * time.Second

// Sample is what the probe saw at one moment. What nobody was asked for, or
// could not be read, is nil.
type Sample struct {
	At         time.Time
	Own        time.Duration  // CPU time of this process
	ServerCPU  *time.Duration // of all server processes
	RedisCPU   *time.Duration
	ServerRSS  *int64 // bytes, of all server processes
	RedisRSS   *int64
	Goroutines *int64 // of all nodes
}

// Read takes a sample. It blocks while the sources answer; the error joins what
// went wrong with any of them, and the sample holds the rest.
func (p *Probe) Read(ctx context.Context) (Sample, error) {
	s := Sample{At: time.Now(), Own: host.OwnCPU()}
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	s.ServerCPU = sum(p.ServerPIDs, host.CPU, note)
	s.RedisCPU = sum(p.RedisPIDs, host.CPU, note)
	s.ServerRSS = sum(p.ServerPIDs, host.RSS, note)
	s.RedisRSS = sum(p.RedisPIDs, host.RSS, note)
	pages := make([]page, 0, len(p.Metrics))
	for _, url := range p.Metrics {
		found, err := metrics(ctx, url)
		note(err)
		if err == nil {
			pages = append(pages, found)
		}
	}
	if len(p.Metrics) > 0 && len(pages) == len(p.Metrics) {
		if len(p.ServerPIDs) == 0 { // what /proc says is the finer answer
			s.ServerCPU = sum(pages, page.cpu, note)
			s.ServerRSS = sum(pages, page.rss, note)
		}
		s.Goroutines = sum(pages, page.goroutines, note)
	}
	if len(p.Pprof) > 0 {
		s.Goroutines = sum(p.Pprof, func(base string) (int64, error) { return goroutines(ctx, base) }, note)
	}
	return s, errors.Join(errs...)
}

// sum adds up what ask says of each; nil when there is none, or one fails.
func sum[S any, N int64 | time.Duration](sources []S, ask func(S) (N, error), note func(error)) *N {
	if len(sources) == 0 {
		return nil
	}
	var total N
	for _, source := range sources {
		n, err := ask(source)
		if err != nil {
			note(err)
			return nil
		}
		total += n
	}
	return &total
}

// page is a /metrics page: values by name, of metrics without labels.
type page struct {
	url    string
	values map[string]float64
}

func (p page) value(name string) (float64, error) {
	if v, ok := p.values[name]; ok {
		return v, nil
	}
	return 0, fmt.Errorf("%s has no %s", p.url, name)
}

func (p page) cpu() (time.Duration, error) {
	v, err := p.value("process_cpu_seconds_total")
	return time.Duration(v * float64(time.Second)), err
}

func (p page) rss() (int64, error) {
	v, err := p.value("process_resident_memory_bytes")
	return int64(v), err
}

func (p page) goroutines() (int64, error) {
	v, err := p.value("go_goroutines")
	return int64(v), err
}

func metrics(ctx context.Context, url string) (page, error) {
	found := page{url: url, values: map[string]float64{}}
	err := get(ctx, url, func(body io.Reader) error {
		lines := bufio.NewScanner(body)
		for lines.Scan() {
			name, value, ok := strings.Cut(lines.Text(), " ")
			if !ok || strings.HasPrefix(name, "#") {
				continue
			}
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				found.values[name] = v
			}
		}
		return lines.Err()
	})
	return found, err
}

// Value reads one metric without labels of a /metrics page.
func Value(ctx context.Context, url, name string) (float64, error) {
	p, err := metrics(ctx, url)
	if err != nil {
		return 0, err
	}
	return p.value(name)
}

// goroutines reads the first line of the goroutine profile, which ends in
// their number.
func goroutines(ctx context.Context, base string) (n int64, err error) {
	url := strings.TrimSuffix(strings.TrimSuffix(base, "/"), "/debug/pprof") + "/debug/pprof/goroutine?debug=1"
	err = get(ctx, url, func(body io.Reader) error {
		if _, err := fmt.Fscanf(body, "goroutine profile: total %d", &n); err != nil {
			return fmt.Errorf("%s is no goroutine profile: %w", url, err)
		}
		return nil
	})
	return n, err
}

// get reads a page to its end.
func get(ctx context.Context, url string, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	if err := read(response.Body); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
