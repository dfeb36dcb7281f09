package redisbus

import "github.com/prometheus/client_golang/prometheus"

// RoomsMetrics are the figures of Rooms.
type RoomsMetrics struct {
	transitions *prometheus.CounterVec
	reaped      prometheus.Counter
}

func newRoomsMetrics() *RoomsMetrics {
	return &RoomsMetrics{
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_room_transitions_total",
			Help: "Changes of rooms that this node has made, by what happened.",
		}, []string{"transition"}),
		reaped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_rooms_reaped_seats_total",
			Help: "Seats in rooms that this node has given up for dead nodes.",
		}),
	}
}

// Collectors are the figures to register.
func (m *RoomsMetrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.transitions, m.reaped}
}
