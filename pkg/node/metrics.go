package node

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

var errDraining = errors.New("this node is going down")

type metrics struct {
	registry *prometheus.Registry
	own      []prometheus.Collector
}

func newMetrics(n *Node, parts ...[]prometheus.Collector) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "parley_build_info", Help: "Always 1; the version is in the label.",
	}, []string{"version"})
	info.WithLabelValues(Version).Set(1)
	m.own = append(slices.Concat(parts...), info,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_ready", Help: "1 when /readyz says ok.",
		}, func() float64 {
			if n.Ready() == nil {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_topics", Help: "Topics that have local subscribers.",
		}, func() float64 { return float64(n.hub.Len()) }))
	m.registry.MustRegister(m.own...)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Metric describes one of Parley's metrics.
type Metric struct{ Name, Labels, Help string }

var descForm = regexp.MustCompile(`fqName: "([^"]*)", help: "([^"]*)", .*variableLabels: \{([^}]*)\}`)

// describe lists Parley's own metrics by name.
func (m *metrics) describe() (all []Metric) {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		for _, c := range m.own {
			c.Describe(descs)
		}
	}()
	for d := range descs {
		if f := descForm.FindStringSubmatch(d.String()); f != nil {
			all = append(all, Metric{f[1], f[3], f[2]})
		}
	}
	slices.SortFunc(all, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
	return all
}
