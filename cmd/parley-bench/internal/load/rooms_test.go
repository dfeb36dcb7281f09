package load

import (
	"slices"
	"strings"
	"testing"
	"time"

	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/rooms"
	"parley/cmd/parley-bench/internal/roomstest"
	"parley/cmd/parley-bench/internal/wsclient"
)

func startRooms(t *testing.T, fate func(int) roomstest.Fate) *roomstest.Server {
	s := roomstest.Start(fate)
	t.Cleanup(s.Close)
	return s
}

// lossyDrain is how long a run waits for messages of which some never come; others wait
// as long as it takes.
const lossyDrain = time.Second

// shortRooms is a run of a fraction of a second, in which clients join one after the
// other.
func shortRooms(t *testing.T, s *roomstest.Server) *Rooms {
	t.Helper()
	target, err := wsclient.ParseTarget(s.URL, rooms.Path)
	if err != nil {
		t.Fatal(err)
	}
	return &Rooms{Fleet: Fleet{Targets: []wsclient.Target{target}, Concurrency: 1, Timeout: 10 * time.Second},
		Rooms: 2, Clients: 4, Traffic: Traffic{Window: 4, Size: 64, Duration: 100 * time.Millisecond,
			Drain: 20 * time.Second, Linger: 50 * time.Millisecond, GiveUp: 100 * time.Millisecond}}
}

func runRooms(t *testing.T, d *Rooms) *RoomsResult {
	t.Helper()
	r, err := d.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func everyRelay(k int, f roomstest.Fate) func(int) roomstest.Fate {
	return func(n int) roomstest.Fate {
		if n%k == k-1 {
			return f
		}
		return roomstest.Deliver
	}
}

func TestTheRelaysLedgerFindsWhatTheServerDid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fate  roomstest.Fate
		found func(RelayTotals) uint64 // must equal the server's count
		kept  bool
		kind  ledger.Kind
	}{
		"dropped":     {roomstest.Drop, func(t RelayTotals) uint64 { return t.Lost }, false, ledger.Lost},
		"dropped all": {roomstest.DropAll, func(t RelayTotals) uint64 { return t.Vanished }, false, ""},
		"duplicated":  {roomstest.Duplicate, func(t RelayTotals) uint64 { return t.Duplicates }, false, ledger.Duplicated},
		"altered":     {roomstest.Alter, func(t RelayTotals) uint64 { return min(t.Lost, t.Foreign) }, false, ledger.Strange},
		"malformed":   {roomstest.Malformed, func(t RelayTotals) uint64 { return t.Foreign }, false, ledger.Strange},
		"refused":     {roomstest.Refuse, func(t RelayTotals) uint64 { return t.RefusedBy["429"] }, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRooms(t, everyRelay(5, c.fate))
			d := shortRooms(t, s)
			if c.kind != ledger.Duplicated && !c.kept {
				d.Drain = lossyDrain
			}
			r := runRooms(t, d)
			did := s.Count(c.fate)
			if did == 0 || s.Count(roomstest.Deliver) == 0 {
				t.Fatalf("the server did it %d times, and %d messages well", did, s.Count(roomstest.Deliver))
			}
			if sent := did + s.Count(roomstest.Deliver); r.Messages.Sent != sent {
				t.Errorf("sent %d, the server took %d", r.Messages.Sent, sent)
			}
			if got := c.found(r.Messages); got != did {
				t.Errorf("found %d, the server did it %d times: %+v", got, did, r.Messages)
			}
			if r.Messages.Kept() != c.kept || (len(r.Failures()) == 0) != c.kept {
				t.Errorf("kept %v, want %v: %+v, %q", r.Messages.Kept(), c.kept, r.Messages, r.Failures())
			}
			all := slices.Collect(r.Ledger)
			if c.kind != "" && !slices.ContainsFunc(all, func(f ledger.Finding) bool {
				return f.Kind == c.kind && f.Receiver == "room 2 client 4"
			}) {
				t.Errorf("no finding %q of the last client in %v", c.kind, all)
			}
			if (c.kept || c.kind == "") && len(all) != 0 {
				t.Errorf("findings %v", all)
			}
		})
	}
}

func TestSwappedRelaysAreFound(t *testing.T) {
	t.Parallel()
	s := startRooms(t, everyRelay(5, roomstest.Swap))
	d := shortRooms(t, s)
	d.Rooms, d.Drain = 1, lossyDrain
	r := runRooms(t, d)
	// One that has waited in vain at the end is lost.
	if did := s.Count(roomstest.Swap); did == 0 || r.Messages.Reordered+r.Messages.Lost != did || r.Messages.Lost > 1 {
		t.Errorf("the server swapped %d; found %+v", did, r.Messages)
	}
	if r.Messages.Kept() || len(r.Failures()) == 0 {
		t.Errorf("kept: %+v", r.Messages)
	}
}

func TestHonestRoomsAreBelieved(t *testing.T) {
	t.Parallel()
	for name, rate := range map[string]float64{"closed loop": 0, "open loop": 500} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRooms(t, nil)
			s.Token = "open sesame"
			d := shortRooms(t, s)
			d.Rate, d.Warmup, d.Token, d.Concurrency = rate, 50*time.Millisecond, s.Token, 8
			r := runRooms(t, d)
			m := r.Messages
			if !m.Kept() || len(r.Failures()) != 0 || m.Rooms != 2 || m.Clients != 8 || m.Sent == 0 || m.Reached != m.Sent || m.Delivered != 3*m.Sent {
				t.Errorf("%+v, %q", m, r.Failures())
			}
			if r.Latency == nil || r.Latency.Count == 0 || r.Latency.Count > m.Delivered || r.Deliveries == 0 || r.Connections != 8 || r.Ended != 0 {
				t.Errorf("%+v", r.Throughput)
			}
			if (r.Lag != nil) != (rate > 0) || r.Cost.OwnCPU == nil {
				t.Errorf("lag %v, cost %+v", r.Lag, r.Cost)
			}
			if s.Rooms() != 0 {
				t.Errorf("%d rooms are left", s.Rooms())
			}
		})
	}
}

func TestRoomsWhoseConnectionsEnd(t *testing.T) {
	t.Parallel()
	s := startRooms(t, func(n int) roomstest.Fate {
		if n == 20 {
			return roomstest.Hangup
		}
		return roomstest.Deliver
	})
	r := runRooms(t, shortRooms(t, s))
	if r.Ended != 1 || r.EndedBy["closed with 1012"] != 1 || len(r.Failures()) != 1 || !strings.Contains(r.Failures()[0], "1 of 8 connections ended") {
		t.Errorf("%d ended: %v, %q", r.Ended, r.EndedBy, r.Failures())
	}
	if !r.Messages.Kept() || r.Messages.Sent < 30 {
		t.Errorf("the others were not served: %+v", r.Messages)
	}
}

func TestRoomsThatCannotBeMadeOrJoined(t *testing.T) {
	t.Parallel()
	s := startRooms(t, nil)
	s.Token = "open sesame"
	if _, err := shortRooms(t, s).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "HTTP 401: a token is needed") {
		t.Errorf("without the token: %v", err)
	}
	d := shortRooms(t, s)
	d.Token = s.Token
	d.Targets[0].Path = "/v1/websocket?"
	if r := runRooms(t, d); !r.Messages.Kept() {
		t.Errorf("%+v", r.Messages)
	}
	d.Targets = append(d.Targets, d.Targets[0])
	d.Targets[1].Path = "/nowhere"
	_, err := d.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "connections could be opened") || s.Rooms() != 0 {
		t.Errorf("a target that is none: %v, %d rooms left", err, s.Rooms())
	}
}
