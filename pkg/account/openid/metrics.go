package openid

import "github.com/prometheus/client_golang/prometheus"

// How a sign-in ends.
const (
	resultOK          = "ok"
	resultCreated     = "created"     // and it was the first one
	resultRefused     = "refused"     // by the issuer, or the user said no there
	resultUnknown     = "unknown"     // none that is under way in this browser
	resultInvalid     = "invalid"     // what the issuer has answered does not hold
	resultTaken       = "email_taken" // by an account that is not the issuer's
	resultNoEmail     = "no_email"
	resultLimited     = "limited"
	resultBad         = "bad_request"
	resultUnavailable = "unavailable" // the issuer, Redis or the database
	resultInternal    = "internal"
)

// Metrics are the figures of a Handler.
type Metrics struct {
	logins *prometheus.CounterVec
}

func newMetrics() *Metrics {
	m := &Metrics{
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_openid_logins_total",
			Help: "Sign-ins through the OpenID Connect issuer, by how they ended: ok, created (the first one, with a new account), refused (there), unknown (not under way), invalid (answer of the issuer), email_taken, no_email, limited, bad_request, unavailable or internal.",
		}, []string{"result"}),
	}
	for _, result := range []string{resultOK, resultCreated, resultRefused, resultUnknown, resultInvalid, resultTaken, resultNoEmail,
		resultLimited, resultBad, resultUnavailable, resultInternal} {
		m.logins.WithLabelValues(result) // shown as 0 from the start
	}
	return m
}

// Collectors are the figures to register.
func (m *Metrics) Collectors() []prometheus.Collector { return []prometheus.Collector{m.logins} }
