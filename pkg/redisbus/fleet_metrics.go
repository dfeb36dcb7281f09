package redisbus

import "github.com/prometheus/client_golang/prometheus"

// FleetMetrics are the figures of a Fleet.
type FleetMetrics struct {
	claims         prometheus.GaugeFunc
	nodesReaped    prometheus.Counter
	claimsReleased prometheus.Counter
	leasesLost     prometheus.Counter
	claimsLost     prometheus.Counter
}

func newFleetMetrics(claims func() float64) *FleetMetrics {
	return &FleetMetrics{
		claims: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_claims",
			Help: "Names, seats and the like that this node holds for its clients.",
		}, claims),
		nodesReaped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_reaped_nodes_total",
			Help: "Dead nodes whose claims this node has released, all of them.",
		}),
		claimsReleased: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_released_claims_total",
			Help: "Claims that this node has released for dead nodes, and its own at its end.",
		}),
		leasesLost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_lease_lost_total",
			Help: "Times that this node found its lease gone: it was cut off and taken for dead, or Redis has lost its data.",
		}),
		claimsLost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_lost_claims_total",
			Help: "Claims that this node has lost without giving them back; the connections concerned were closed.",
		}),
	}
}

// Collectors are the figures to register.
func (m *FleetMetrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.claims, m.nodesReaped, m.claimsReleased, m.leasesLost, m.claimsLost}
}
