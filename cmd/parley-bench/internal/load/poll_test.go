package load

import (
	"context"
	"strings"
	"testing"
	"time"

	"parley/cmd/parley-bench/internal/probe"
	"parley/cmd/parley-bench/internal/pull"
	"parley/cmd/parley-bench/internal/pulltest"
	"parley/cmd/parley-bench/internal/wsclient"
)

// pullFleet is a tiny server twice, with n users.
func pullFleet(t *testing.T, n int, fate func(int) pulltest.Fate) (PullFleet, []pull.User, *pulltest.Server) {
	t.Helper()
	s := pulltest.Start(fate)
	t.Cleanup(s.Close)
	target, err := wsclient.ParseTarget(s.URL, "/")
	if err != nil {
		t.Fatal(err)
	}
	f := PullFleet{Targets: []wsclient.Target{target, target}, Client: pull.NewClient(nil, 16), Progress: func(string) {}}
	t.Cleanup(f.Client.Close)
	var users []pull.User
	for range n {
		u, err := f.Client.SignUp(t.Context(), s.URL)
		if err != nil {
			t.Fatal(err)
		}
		users = append(users, u)
	}
	return f, users, s
}

func TestParkedPollsAreHeldAndMeasured(t *testing.T) {
	t.Parallel()
	f, users, s := pullFleet(t, 5, nil)
	f.Probe = probe.Probe{Metrics: []string{s.URL + "/metrics"}}
	redis := []int{3, 3 + poolSlack}
	f.Redis = func(context.Context) (int, error) {
		n := redis[0]
		redis = redis[1:]
		return n, nil
	}
	d := Park{PullFleet: f, Polls: 20, Users: users, Concurrency: 4, Timeout: 10 * time.Second, Hold: 50 * time.Millisecond,
		Waiting: func(ctx context.Context) (int, error) {
			n, err := probe.Value(ctx, s.URL+"/metrics", "parley_polls_parked")
			return int(n), err
		}}
	r, err := d.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Parked != 20 || r.Answered != 0 || len(r.Failures()) != 0 || r.Users != 5 {
		t.Errorf("%+v, %q", r, r.Failures())
	}
	// The server says that a poll takes it a thousand bytes.
	if r.Memory == nil || *r.Memory != 1000 || r.Goroutines == nil || *r.Goroutines != 0 {
		t.Errorf("memory %v, goroutines %v", r.Memory, r.Goroutines)
	}
	redis = []int{3, 4 + poolSlack}
	if r, err = d.Run(t.Context()); err != nil || len(r.Failures()) != 1 || !strings.Contains(r.Failures()[0], "redis has") {
		t.Errorf("%v, %q", err, r.Failures())
	}
}

func TestPollsThatAreAnsweredOrNotSent(t *testing.T) {
	t.Parallel()
	f, users, s := pullFleet(t, 1, nil)
	s.SetAway(true)
	d := Park{PullFleet: f, Polls: 3, Users: users, Concurrency: 1, Timeout: 10 * time.Second, Settle: 200 * time.Millisecond, Hold: 300 * time.Millisecond}
	r, err := d.Run(t.Context())
	if err != nil || r.Answered != 3 || r.Answers["HTTP/1.1 503 Service Unavailable"] != 3 || len(r.Failures()) != 1 {
		t.Errorf("%v, %+v", err, r)
	}
	s.Close()
	if _, err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "none of 3 polls could be sent") {
		t.Errorf("%v", err)
	}
}

func TestLatencyOfNotifications(t *testing.T) {
	t.Parallel()
	f, users, _ := pullFleet(t, 6, nil)
	d := PollLatency{PullFleet: f, Senders: users[:2], Pollers: users[2:], Rate: 200, Size: 64, Warmup: 50 * time.Millisecond, Duration: 300 * time.Millisecond,
		Drain: 10 * time.Second, Timeout: 10 * time.Second}
	r, err := d.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Failures()) != 0 || r.Latency == nil || r.Written == nil || r.Lag == nil || r.Notified != r.Sent || r.Latency.Count == 0 || r.Latency.Count >= r.Sent {
		t.Errorf("%+v, %q", r, r.Failures())
	}
}

func TestMissingNotificationsFailTheRun(t *testing.T) {
	t.Parallel()
	f, users, s := pullFleet(t, 4, func(n int) pulltest.Fate {
		if n == 10 {
			return pulltest.DropNotice
		}
		return pulltest.Deliver
	})
	d := PollLatency{PullFleet: f, Senders: users[:1], Pollers: users[1:], Rate: 200, Size: 64, Duration: 200 * time.Millisecond, Drain: 100 * time.Millisecond, Timeout: 10 * time.Second}
	r, err := d.Run(t.Context())
	if err != nil || s.Count(pulltest.DropNotice) != 1 || r.Sent != r.Notified+1 || len(r.Failures()) != 1 {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestTheLedgerOfPulledMessages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fate   pulltest.Fate
		failed string // "": nothing
	}{
		"well":         {pulltest.Deliver, ""},
		"lost":         {pulltest.Drop, "messages acknowledged and never pulled"},
		"twice":        {pulltest.Duplicate, "messages pulled more than once"},
		"not notified": {pulltest.DropNotice, "messages of which the receiver was not notified"},
		"notified":     {pulltest.RepeatNotice, "notifications that came twice"},
		"gap":          {pulltest.Gap, "times that a receiver was told of a gap"},
		"broken":       {pulltest.Break, "requests failed: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, users, s := pullFleet(t, 4, func(n int) pulltest.Fate {
				if n%50 == 20 {
					return c.fate
				}
				return pulltest.Deliver
			})
			d := PollLedger{PullFleet: f, Messages: 200, Senders: users[:2], Receivers: users[2:], Window: 5, Size: 64, Wait: 100 * time.Millisecond,
				Timeout: 10 * time.Second, Drain: 20 * time.Second}
			if c.fate == pulltest.Drop || c.fate == pulltest.DropNotice {
				d.Drain, d.Window = lossyDrain, 20 // what is lost is in the window for ever
			}
			r, err := d.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.Messages.Sent != 200 || r.Pulled == nil || r.Written == nil || r.Cost.OwnCPU == nil || r.PerSecond <= 0 {
				t.Errorf("%+v", r)
			}
			if c.failed == "" {
				if len(r.Failures()) != 0 || r.Messages.Delivered != 200 || r.Notices.Came != 200 || r.FoundInAll != 0 {
					t.Errorf("%+v, %q", r, r.Failures())
				}
				return
			}
			if s.Count(c.fate) != 4 || len(r.Failures()) != 1 || !strings.Contains(r.Failures()[0], c.failed) {
				t.Errorf("the server did it %d times: %q", s.Count(c.fate), r.Failures())
			}
		})
	}
}
