package archive

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"parley/pkg/relay"
)

// split makes a history of n messages, of which the archive has the first archived
// ones, and the journal all but the first forgotten ones.
func split(n, archived, forgotten int) (h *History, journal, archive *store, all []relay.Message) {
	journal, archive = newStore(), newStore()
	all = journal.appendTo(room, n)
	archive.topics[room] = append(archive.topics[room], all[:archived]...)
	journal.topics[room] = journal.topics[room][forgotten:]
	return NewHistory(journal, archive), journal, archive, all
}

// Every page of every split of a short history, from every place, is what it would be
// if all were in one.
func TestHistoryIsOne(t *testing.T) {
	const most = 9
	for n := range most + 1 {
		for archived := range n + 1 {
			for forgotten := range archived + 1 {
				h, journal, _, all := split(n, archived, forgotten)
				whole := newStore()
				whole.topics[room] = all
				if n > 0 {
					journal.intact = all[0].ID
				}
				places := []relay.ID{{}, {Millis: 1}, {Millis: 1 << 40}}
				for _, m := range all {
					places = append(places, m.ID, after(m.ID))
				}
				for size := range most + 2 {
					for _, before := range places {
						got, more, err := h.Before(t.Context(), room, before, size)
						want, wantMore, _ := whole.Before(t.Context(), room, before, size)
						if err != nil || more != wantMore || !equal(got, want) {
							t.Fatalf("%d messages, %d archived, %d forgotten: %d before %v: %v, more %v (%v), want %v, more %v",
								n, archived, forgotten, size, before, ids(got), more, err, ids(want), wantMore)
						}
					}
					r, err := h.Newest(t.Context(), room, size)
					want, _ := whole.Newest(t.Context(), room, size)
					if err != nil || r.More != want.More || !equal(r.Messages, want.Messages) || r.Intact != journal.intact {
						t.Fatalf("%d messages, %d archived, %d forgotten: newest %d: %+v (%v), want %+v",
							n, archived, forgotten, size, r, err, want)
					}
				}
				for _, place := range places {
					got, err := h.Has(t.Context(), room, place)
					want, _ := whole.Has(t.Context(), room, place)
					if err != nil || got != want {
						t.Fatalf("%d messages, %d archived, %d forgotten: has %v: %v (%v), want %v", n, archived, forgotten, place, got, err, want)
					}
				}
			}
		}
	}
}

func equal(a, b []relay.Message) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].ID != b[i].ID || string(a[i].Body) != string(b[i].Body) {
			return false
		}
	}
	return true
}

func ids(ms []relay.Message) (all []relay.ID) {
	for _, m := range ms {
		all = append(all, m.ID)
	}
	return all
}

func TestHistoryOfNothing(t *testing.T) {
	h, _, _, _ := split(0, 0, 0)
	r, err := h.Newest(t.Context(), room, 10)
	if err != nil || len(r.Messages) != 0 || r.More || !r.Intact.IsZero() {
		t.Errorf("%+v (%v), want nothing", r, err)
	}
}

// A journal that has lost everything, even that there was something, does not make
// the archive's messages look as if nothing could have followed them.
func TestHistoryAfterTheJournalWasLost(t *testing.T) {
	h, journal, _, all := split(5, 5, 5)
	r, err := h.Newest(t.Context(), room, 3)
	if want := after(all[4].ID); err != nil || r.Intact != want || !r.More || len(r.Messages) != 3 {
		t.Errorf("%+v (%v), want three messages that are intact from %v on", r, err, want)
	}
	journal.intact = relay.ID{Millis: 1 << 20, Seq: 1} // it knows something
	r, err = h.Newest(t.Context(), room, 3)
	if err != nil || r.Intact != journal.intact {
		t.Errorf("%+v (%v), want what the journal says: %v", r, err, journal.intact)
	}
}

func TestPlaceAfter(t *testing.T) {
	const last = ^uint64(0)
	for _, c := range []struct{ id, want relay.ID }{
		{relay.ID{Millis: 5, Seq: 0}, relay.ID{Millis: 5, Seq: 1}},
		{relay.ID{Millis: 5, Seq: last}, relay.ID{Millis: 6}},
	} {
		if got := after(c.id); got != c.want {
			t.Errorf("after %v comes %v, want %v", c.id, got, c.want)
		}
	}
}

// What the journal alone can answer is had without the archive; the rest is an error
// that says so.
func TestHistoryWithoutTheArchive(t *testing.T) {
	broken := func(context.Context, string) fault { return refused }
	for _, wrapped := range []bool{true, false} {
		h, journal, archive, all := split(10, 4, 4)
		archive.inject(broken)
		if !wrapped {
			h.archive = plainErrors{archive}
		}
		if r, err := h.Newest(t.Context(), room, 5); err != nil || len(r.Messages) != 5 || !r.More {
			t.Errorf("a full page with more in the journal: %+v (%v)", r, err)
		}
		if has, err := h.Has(t.Context(), room, all[4].ID); err != nil || !has {
			t.Errorf("a message of the journal: %v (%v)", has, err)
		}
		for n := 6; n <= 7; n++ { // that there is more, the journal knows: it has forgotten
			if r, err := h.Newest(t.Context(), room, n); err != nil || len(r.Messages) != 6 || !r.More || r.Begins {
				t.Errorf("the newest %d: %+v (%v)", n, r, err)
			}
		}
		whole, wholeJournal, wholeArchive, _ := split(3, 1, 0)
		wholeArchive.inject(broken)
		if r, err := whole.Newest(t.Context(), room, 5); err != nil || len(r.Messages) != 3 || r.More || !r.Begins {
			t.Errorf("a journal that has everything: %+v (%v)", r, err)
		}
		wholeJournal.topics[room] = nil
		_, errEmpty := whole.Newest(t.Context(), room, 5)
		_, _, errBefore := h.Before(t.Context(), room, all[4].ID, 1)
		_, errHas := h.Has(t.Context(), room, all[3].ID)
		for i, err := range []error{errEmpty, errBefore, errHas} {
			if !errors.Is(err, relay.ErrUnavailable) {
				t.Errorf("question %d for the archive: %v, want %v", i, err, relay.ErrUnavailable)
			}
		}
		archive.inject(nil)
		journal.inject(broken)
		_, err := h.Newest(t.Context(), room, 1)
		_, _, errBefore = h.Before(t.Context(), room, relay.ID{}, 1)
		_, errHas = h.Has(t.Context(), room, all[3].ID)
		for i, err := range []error{err, errBefore, errHas} {
			if !errors.Is(err, relay.ErrUnavailable) {
				t.Errorf("question %d for the journal: %v, want %v", i, err, relay.ErrUnavailable)
			}
		}
	}
}

// plainErrors is an archive whose errors do not say what they are.
type plainErrors struct{ relay.Records }

func (p plainErrors) Before(ctx context.Context, t relay.Topic, before relay.ID, n int) ([]relay.Message, bool, error) {
	page, more, err := p.Records.Before(ctx, t, before, n)
	if err != nil {
		err = errors.New("table archive is marked as crashed")
	}
	return page, more, err
}

func (p plainErrors) Has(ctx context.Context, t relay.Topic, id relay.ID) (bool, error) {
	has, err := p.Records.Has(ctx, t, id)
	if err != nil {
		err = errors.New("table archive is marked as crashed")
	}
	return has, err
}

// Once it is known which message is the first, pages that end with it do not need
// the archive, until that message has left the journal.
func TestHistoryRemembersTheFirst(t *testing.T) {
	h, journal, archive, all := split(3, 0, 0)
	for range 10 {
		r, err := h.Newest(t.Context(), room, 3)
		if err != nil || r.More || len(r.Messages) != 3 {
			t.Fatalf("%+v (%v), want all three", r, err)
		}
	}
	if n := archive.count("before"); n != 1 {
		t.Errorf("the archive was asked %d times, want once", n)
	}
	if _, more, err := h.Before(t.Context(), room, all[1].ID, 5); err != nil || more {
		t.Errorf("before the second: more %v (%v)", more, err)
	}
	if n := archive.count("before"); n != 1 {
		t.Errorf("the archive was asked %d times, want once", n)
	}
	m := NewMover(Config{Journal: journal, Archive: archive, Topics: []relay.Topic{room}})
	f := follower{Mover: m, topic: room, size: batchFirst}
	if left, err := f.batch(t.Context(), 1); left != 0 || err != nil {
		t.Fatalf("%d left (%v)", left, err)
	}
	if err := same(pages(t, h, room, 3), all); err != nil {
		t.Error(err)
	}
}

func TestHistoryRemembersSoManyFirstsOnly(t *testing.T) {
	h, _, _, _ := split(0, 0, 0)
	id := relay.ID{Millis: 1}
	topic := func(i int) relay.Topic { return relay.Topic("chat/" + string(rune(i+1000))) }
	for i := range firstsKept {
		h.noteFirst(topic(i), id)
	}
	h.noteFirst(topic(0), id) // it is known already
	if len(h.first) != firstsKept {
		t.Errorf("%d are remembered, want %d", len(h.first), firstsKept)
	}
	h.noteFirst(topic(firstsKept), id)
	if len(h.first) != 1 || !h.isFirst(topic(firstsKept), id) {
		t.Errorf("%d are remembered, want the last one", len(h.first))
	}
}

// A page costs the same wherever it lies in a topic of a million messages.
func TestHistoryPageCost(t *testing.T) {
	const n, size, kept = 1_000_000, 100, 1000
	h, journal, archive, _ := split(0, 0, 0)
	all := make([]relay.Message, n)
	for i := range all {
		all[i] = relay.Message{ID: relay.ID{Millis: 7 * uint64(i/3), Seq: uint64(i%3 + 1)}, Topic: room}
	}
	archive.topics[room], journal.topics[room] = all[:n-kept/2], all[n-kept:]
	r := rand.New(rand.NewPCG(1, 2))
	places := []int{0, 1, size, n - kept - 1, n - kept, n - kept + 1, n - kept + size, n - kept/2, n - size, n - 1}
	for range 200 {
		places = append(places, r.IntN(n))
	}
	for _, i := range places {
		journal.asked, archive.asked = 0, 0
		calls := journal.count("before") + archive.count("before")
		page, more, err := h.Before(t.Context(), room, all[i].ID, size)
		if err != nil || more != (i > size) || len(page) != min(i, size) {
			t.Fatalf("before message %d: %d messages, more %v (%v)", i, len(page), more, err)
		}
		if asked := journal.asked + archive.asked; asked > 2*size {
			t.Errorf("before message %d: %d messages were asked for, want %d at most", i, asked, 2*size)
		}
		if calls = journal.count("before") + archive.count("before") - calls; calls > 2 {
			t.Errorf("before message %d: %d calls, want 2 at most", i, calls)
		}
	}
}

// An archive that does not answer keeps nobody from the newest messages for long.
func TestHistoryOfASilentArchive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, archive, _ := split(10, 4, 4)
		archive.inject(func(ctx context.Context, _ string) fault {
			<-ctx.Done()
			return refused
		})
		began := time.Now()
		if r, err := h.Newest(t.Context(), room, 100); err != nil || len(r.Messages) != 6 || !r.More || time.Since(began) != newestTimeout {
			t.Errorf("after %v: %+v (%v)", time.Since(began), r, err)
		}
	})
}
