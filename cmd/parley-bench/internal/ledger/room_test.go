package ledger

import (
	"reflect"
	"slices"
	"testing"
)

// at is the place of a message of a publisher, when two take turns.
func at(publisher int, seq uint64) Place { return Place{Millis: seq, Seq: uint64(publisher)} }

// sentTo makes a room of two publishers, who are the first two members, and one more
// member, with n messages of each publisher.
func sentTo(n int) (r *Room, members []*Member) {
	r = NewRoom("p0", "p1")
	for i, own := range []int{0, 1, -1} {
		members = append(members, r.Join([]string{"m0", "m1", "m2"}[i], own))
	}
	for range n {
		for p := range 2 {
			r.Send(p)
		}
	}
	return r, members
}

// pass delivers messages up to n of both publishers, but for those that skip names.
func pass(t *testing.T, m *Member, from, n int, skip ...[2]uint64) {
	t.Helper()
	for seq := uint64(from); seq <= uint64(n); seq++ {
		for p := range 2 {
			if slices.Contains(skip, [2]uint64{uint64(p), seq}) {
				continue
			}
			if got := m.Deliver(p, seq, at(p, seq)); !got.Known || !got.First {
				t.Errorf("message %d of %d: %+v", seq, p, got)
			}
		}
	}
}

func kindsOf(r *Room) (kinds []Finding) {
	for f := range r.Findings {
		f.Note = ""
		kinds = append(kinds, f)
	}
	return kinds
}

func TestRoomWhereAllIsWell(t *testing.T) {
	r, members := sentTo(1000)
	for _, m := range members {
		if r.Settled() {
			t.Error("settled before all have got all")
		}
		pass(t, m, 1, 1000)
		for i := range m.from {
			if len(m.from[i].missing) != 0 || m.from[i].duplicated != nil {
				t.Errorf("what goes well takes memory: %+v", m.from[i])
			}
		}
	}
	want := RoomTotals{Members: 3, Sent: 2000, CameBack: 2000, RefusedBy: map[string]uint64{}, Delivered: 6000}
	if got := r.Totals(); !reflect.DeepEqual(got, want) || !got.Kept() || !r.Settled() || r.Delivered() != 6000 {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := kindsOf(r); len(got) != 0 {
		t.Errorf("findings %v", got)
	}
}

func TestRoomNamesWhatWentWrong(t *testing.T) {
	for name, c := range map[string]struct {
		wrong func(t *testing.T, r *Room, m *Member) // gets messages 5 to 9 of both
		want  RoomTotals
		found []Finding
		kept  bool
	}{
		"lost": {func(t *testing.T, r *Room, m *Member) {
			pass(t, m, 5, 9, [2]uint64{0, 6}, [2]uint64{0, 7}, [2]uint64{1, 6})
		},
			RoomTotals{Lost: 3}, []Finding{{Kind: Lost, Sender: "p0", First: 6, Last: 7}, {Kind: Lost, Sender: "p1", First: 6, Last: 6}}, false},
		"lost at the end": {func(t *testing.T, r *Room, m *Member) { pass(t, m, 5, 8) },
			RoomTotals{Lost: 2}, []Finding{{Kind: Lost, Sender: "p0", First: 9, Last: 9}, {Kind: Lost, Sender: "p1", First: 9, Last: 9}}, false},
		"ended": {func(t *testing.T, r *Room, m *Member) { pass(t, m, 5, 8); m.End("gone") }, RoomTotals{}, nil, true},
		"lost before it ended": {func(t *testing.T, r *Room, m *Member) { pass(t, m, 5, 8, [2]uint64{1, 6}); m.End("gone") },
			RoomTotals{Lost: 1}, []Finding{{Kind: Lost, Sender: "p1", First: 6, Last: 6}}, false},
		"duplicated": {func(t *testing.T, r *Room, m *Member) {
			pass(t, m, 5, 9)
			for range 2 {
				if got := m.Deliver(1, 7, at(1, 7)); !got.Known || got.First {
					t.Errorf("%+v", got)
				}
			}
		}, RoomTotals{Duplicates: 2}, []Finding{{Kind: Duplicated, Sender: "p1", First: 7, Last: 7}}, false},
		"reordered": {func(t *testing.T, r *Room, m *Member) {
			pass(t, m, 5, 9, [2]uint64{0, 8})
			m.Deliver(0, 8, at(0, 8))
		}, RoomTotals{Reordered: 1, Misplaced: 1, Differing: 1}, []Finding{{Kind: Reordered, Sender: "p0", First: 8, Last: 8}, {Kind: Misplaced}}, false},
		"publishers in another order": {func(t *testing.T, r *Room, m *Member) {
			pass(t, m, 5, 8)
			m.Deliver(1, 9, at(1, 9))
			m.Deliver(0, 9, at(0, 9))
		}, RoomTotals{Misplaced: 1, Differing: 1}, []Finding{{Kind: Misplaced}}, false},
		"another place": {func(t *testing.T, r *Room, m *Member) {
			pass(t, m, 5, 9, [2]uint64{1, 9})
			m.Deliver(1, 9, at(1, 11))
		}, RoomTotals{Differing: 1}, nil, false},
		"foreign": {func(t *testing.T, r *Room, m *Member) {
			pass(t, m, 5, 9)
			for _, c := range [][2]int{{0, 10}, {0, 0}, {2, 1}, {-1, 1}} {
				if got := m.Deliver(c[0], uint64(c[1]), at(0, 10)); got.Known {
					t.Errorf("%v: %+v", c, got)
				}
			}
			r.Foreign("m2", "a stranger's")
		}, RoomTotals{Foreign: 1}, []Finding{{Kind: Strange}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, members := sentTo(9)
			for _, m := range members {
				pass(t, m, 1, 4)
			}
			pass(t, members[0], 5, 9)
			pass(t, members[1], 5, 9)
			c.wrong(t, r, members[2])
			got := r.Totals()
			c.want.Members, c.want.Sent, c.want.CameBack, c.want.RefusedBy = 3, 18, 18, map[string]uint64{}
			c.want.Delivered = got.Delivered
			if !reflect.DeepEqual(got, c.want) || got.Kept() != c.kept {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			found := kindsOf(r)
			for i := range c.found {
				if c.found[i].Receiver = "m2"; c.found[i].Kind == Misplaced {
					c.found[i].Sender = ""
				}
			}
			if !reflect.DeepEqual(found, c.found) {
				t.Errorf("found %v, want %v", found, c.found)
			}
			if worst, all := r.Worst(1); all != len(c.found) || len(worst) != min(1, all) {
				t.Errorf("%d of %d findings, want one of %d", len(worst), all, len(c.found))
			}
		})
	}
}

// What came to nobody is not lost: nobody was told that it was sent.
func TestRoomOfWhatNobodyGot(t *testing.T) {
	r, members := sentTo(9)
	for _, m := range members {
		pass(t, m, 1, 8, [2]uint64{0, 3})
	}
	r.Refuse(0, "ROOM_FULL")
	if r.Settled() {
		t.Error("settled, with messages that were neither refused nor delivered")
	}
	r.Refuse(0, "ROOM_FULL")
	r.Refuse(1, "RATE_LIMITED")
	got := r.Totals()
	want := RoomTotals{Members: 3, Sent: 18, CameBack: 15, Refused: 3, RefusedBy: map[string]uint64{"ROOM_FULL": 2, "RATE_LIMITED": 1}, Delivered: 45}
	if !reflect.DeepEqual(got, want) || !got.Kept() || !r.Settled() {
		t.Errorf("%+v, want %+v", got, want)
	}
	if codes := got.Codes(); !slices.Equal(codes, []string{"RATE_LIMITED", "ROOM_FULL"}) {
		t.Errorf("codes %v", codes)
	}
	if got := kindsOf(r); len(got) != 0 {
		t.Errorf("findings %v", got)
	}
	if got := r.Reached(); got != 15 {
		t.Errorf("%d have come to somebody, want 15", got)
	}
	members[1].Deliver(0, 9, at(0, 9))
	if got := r.Reached(); got != 16 {
		t.Errorf("%d have come to somebody, want 16", got)
	}
	r.Send(0)
	if got := r.Totals(); got.Unanswered != 1 || r.Settled() {
		t.Errorf("%d unanswered, want 1", got.Unanswered)
	}
}
