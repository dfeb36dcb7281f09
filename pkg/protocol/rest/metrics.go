package rest

import "github.com/prometheus/client_golang/prometheus"

// How a notice's way to one user's topic has ended.
const (
	resultSent   = "sent"
	resultFailed = "failed"
)

// How polls are answered.
const (
	pollNotified = "notified"
	pollEmpty    = "empty"
	pollGone     = "gone"    // the client had gone
	pollEnded    = "ended"   // its session has ended
	pollDrained  = "drained" // the node is going down
	pollBroken   = "broken"  // the answer could not be written
)

// Metrics are the figures of the protocol.
type Metrics struct {
	parked   prometheus.GaugeFunc
	polls    *prometheus.CounterVec
	messages *prometheus.CounterVec
	notices  *prometheus.CounterVec
	gaps     prometheus.Counter
}

func newMetrics(parked func() int) *Metrics {
	m := &Metrics{
		parked: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_polls_parked", Help: "Long polls that wait for a notification.",
		}, func() float64 { return float64(parked()) }),
		polls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_polls_total", Help: "Long polls, by how they ended: notified, empty, gone, ended, drained or broken.",
		}, []string{"result"}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_posts_total", Help: "Messages that the database has taken, to a user (private) or a group.",
		}, []string{"kind"}),
		notices: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_notices_total", Help: "Notifications passed to a user's topic; those that failed stay in the database and are passed on later.",
		}, []string{"result"}),
		gaps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_poll_gaps_total", Help: "Times that a client was told that notifications may be missing.",
		}),
	}
	for _, result := range []string{pollNotified, pollEmpty, pollGone, pollEnded, pollDrained, pollBroken} {
		m.polls.WithLabelValues(result) // shown as 0 from the start
	}
	for _, kind := range []string{"private", "group"} {
		m.messages.WithLabelValues(kind)
	}
	for _, result := range []string{resultSent, resultFailed} {
		m.notices.WithLabelValues(result)
	}
	return m
}

// Collectors are the figures to register.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.parked, m.polls, m.messages, m.notices, m.gaps}
}
