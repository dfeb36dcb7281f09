package account

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// How a sign-in ends.
const (
	resultOK          = "ok"
	resultFailed      = "failed" // wrong email or password
	resultInvalid     = "invalid"
	resultLimited     = "limited"
	resultBusy        = "busy"
	resultUnavailable = "unavailable"
)

func resultOf(err error) string {
	var invalid *Invalid
	var limited *Limited
	switch {
	case err == nil:
		return resultOK
	case errors.Is(err, ErrLogin):
		return resultFailed
	case errors.As(err, &invalid):
		return resultInvalid
	case errors.As(err, &limited):
		return resultLimited
	case errors.Is(err, ErrBusy):
		return resultBusy
	}
	return resultUnavailable
}

// Metrics are the figures of Accounts.
type Metrics struct {
	logins  *prometheus.CounterVec
	created prometheus.Counter
	seconds prometheus.Histogram
	queue   prometheus.GaugeFunc
}

func newMetrics(waiting func() float64) *Metrics {
	m := &Metrics{
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_logins_total",
			Help: "Sign-ins with a password, by how they ended: ok, failed, invalid, limited, busy or unavailable.",
		}, []string{"result"}),
		created: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_accounts_created_total", Help: "Accounts that were created through this node.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "parley_password_seconds",
			Help:    "Time that it took to compute a password, without the wait for its turn.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 11),
		}),
		queue: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_password_queue", Help: "Passwords that wait for their turn to be computed.",
		}, waiting),
	}
	for _, result := range []string{resultOK, resultFailed, resultInvalid, resultLimited, resultBusy, resultUnavailable} {
		m.logins.WithLabelValues(result) // shown as 0 from the start
	}
	return m
}

// Collectors are the figures to register.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.logins, m.created, m.seconds, m.queue}
}
