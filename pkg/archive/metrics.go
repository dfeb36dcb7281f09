package archive

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the figures of a Mover.
type Metrics struct {
	archived prometheus.Counter
	backlog  prometheus.GaugeFunc
	errors   prometheus.Counter
}

func newMetrics(backlog func() float64) *Metrics {
	return &Metrics{
		archived: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_archived_messages_total",
			Help: "Messages that this node has moved from Redis to the database.",
		}),
		backlog: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_archive_backlog",
			Help: "Messages in Redis beyond the length that is kept there, as this node saw them last when it was to move them.",
		}, backlog),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_archive_errors_total",
			Help: "Attempts to move messages to the database that failed; they are repeated.",
		}),
	}
}

// Collectors are the figures to register.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.archived, m.backlog, m.errors}
}
