package conn

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the figures of all connections of a node.
type Metrics struct {
	connections *prometheus.GaugeVec
	accepted    *prometheus.CounterVec
	refused     *prometheus.CounterVec
	disconnects *prometheus.CounterVec
	received    *prometheus.CounterVec
	delivered   *prometheus.CounterVec
	errors      *prometheus.CounterVec
	queueBytes  prometheus.Gauge
	catchingUp  prometheus.Gauge
	delivery    prometheus.Histogram
}

// NewMetrics makes the figures; register Collectors once.
func NewMetrics() *Metrics {
	return &Metrics{
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "parley_connections", Help: "Client connections that are open.",
		}, []string{"protocol"}),
		accepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_connections_accepted_total", Help: "Client connections accepted.",
		}, []string{"protocol"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_connections_refused_total",
			Help: "Handshakes refused: node_full, address_full, draining, origin or handshake.",
		}, []string{"reason"}),
		disconnects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_disconnects_total", Help: "Client connections that ended, by the first cause.",
		}, []string{"protocol", "reason"}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_messages_received_total", Help: "Messages that came from clients.",
		}, []string{"protocol"}),
		delivered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_deliveries_total", Help: "Messages queued for local recipients.",
		}, []string{"protocol"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_messages_refused_total", Help: "Messages of clients that were answered by an error, by its code.",
		}, []string{"protocol", "code"}),
		queueBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "parley_queue_bytes", Help: "Bytes queued for connections whose socket is full.",
		}),
		catchingUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "parley_slow_connections", Help: "Connections whose socket is full and that are catching up.",
		}),
		delivery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "parley_delivery_seconds",
			Help:    "Time from the sender's node taking a message to its recipient's queue, observed for one message of each batch. Clocks of nodes must agree.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15),
		}),
	}
}

// Collectors are the figures to register.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.connections, m.accepted, m.refused, m.disconnects, m.received, m.delivered, m.errors, m.queueBytes, m.catchingUp, m.delivery}
}

// Refused counts a handshake that was refused.
func (m *Metrics) Refused(reason string) { m.refused.WithLabelValues(reason).Inc() }

// ProtocolMetrics are the figures of one protocol's messages.
type ProtocolMetrics struct {
	Received  prometheus.Counter
	Delivered prometheus.Counter
	Refused   map[string]prometheus.Counter // by error code; not to be changed
}

// For returns the figures of a protocol that answers with the given error codes.
func (m *Metrics) For(protocol string, codes ...string) *ProtocolMetrics {
	p := &ProtocolMetrics{
		Received:  m.received.WithLabelValues(protocol),
		Delivered: m.delivered.WithLabelValues(protocol),
		Refused:   map[string]prometheus.Counter{},
	}
	for _, code := range codes {
		p.Refused[code] = m.errors.WithLabelValues(protocol, code)
	}
	return p
}
