package drill

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// metrics are the values of a node's /metrics page by name and labels as they
// are written there.
type metrics map[string]float64

// metrics reads the node's page.
func (n *node) metrics(ctx context.Context) (metrics, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.internal+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.name, err)
	}
	defer response.Body.Close()
	m := metrics{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		line := lines.Text()
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
				m[line[:at]] = v
			}
		}
	}
	return m, lines.Err()
}

// sum adds up a metric over all its labels, or those with all the given ones.
func (m metrics) sum(name string, labels ...string) (total float64) {
	for key, v := range m {
		base, rest, _ := strings.Cut(key, "{")
		ok := base == name
		for _, l := range labels {
			ok = ok && strings.Contains(rest, l)
		}
		if ok {
			total += v
		}
	}
	return total
}

// sum adds up a metric over all nodes that run.
func (f *fleet) sum(ctx context.Context, name string, labels ...string) (total float64, err error) {
	for _, n := range f.nodes {
		if n.process == nil || !n.process.running() {
			continue
		}
		m, err := n.metrics(ctx)
		if err != nil {
			return 0, err
		}
		total += m.sum(name, labels...)
	}
	return total, nil
}

// footprint is what nodes hold: it must not grow by a fault.
type footprint struct{ files, goroutines int }

// footprint sums up the nodes that run.
func (f *fleet) footprint(ctx context.Context) (footprint, error) {
	goroutines, err := f.sum(ctx, "go_goroutines")
	if err != nil {
		return footprint{}, err
	}
	p := footprint{goroutines: int(goroutines)}
	for _, n := range f.nodes {
		if n.process == nil || !n.process.running() {
			continue
		}
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.process.os.Pid))
		if err != nil {
			return footprint{}, err
		}
		p.files += len(files)
	}
	return p, nil
}
