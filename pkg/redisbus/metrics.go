package redisbus

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the figures of one bus.
type Metrics struct {
	publishSeconds prometheus.Histogram
	publishErrors  prometheus.Counter
	publishBatch   prometheus.Histogram
	received       prometheus.Counter
	undecodable    prometheus.Counter
	subscriptions  prometheus.Gauge
	reconnects     prometheus.Counter
	gaps           *prometheus.CounterVec
	canaryAge      prometheus.GaugeFunc
}

func newMetrics(canaryAge func() float64) *Metrics {
	return &Metrics{
		publishSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "parley_publish_seconds",
			Help:    "Time from a message's submission to Redis's answer, observed for the oldest message of each pipeline.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15),
		}),
		publishErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_publish_errors_total",
			Help: "Messages that Redis did not accept in time.",
		}),
		publishBatch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "parley_publish_batch_messages",
			Help:    "Messages in one pipeline to Redis.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_redis_messages_received_total",
			Help: "Messages that came from Redis.",
		}),
		undecodable: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_redis_messages_undecodable_total",
			Help: "Messages from Redis that this node could not read: malformed, or of a newer version.",
		}),
		subscriptions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "parley_redis_subscriptions",
			Help: "Topics that this node wants to hear.",
		}),
		reconnects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_redis_reconnects_total",
			Help: "Times that a subscriber connection that stood was lost or replaced.",
		}),
		gaps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_gaps_total",
			Help: "Holes in what came of a topic; healed: all messages were read from the topic's history, in order; not healed: some may be missing for good, and the topic's clients were told.",
		}, []string{"healed"}),
		canaryAge: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_redis_canary_age_seconds",
			Help: "Time since the node last heard itself through Redis; about 1 at most when all is well.",
		}, canaryAge),
	}
}

// Collectors are the figures to register.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.publishSeconds, m.publishErrors, m.publishBatch, m.received,
		m.undecodable, m.subscriptions, m.reconnects, m.gaps, m.canaryAge}
}
