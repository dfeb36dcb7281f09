package relaytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"parley/pkg/relay"
)

// Outbox holds an implementation to the contract of relay.Outbox.
func Outbox(t *testing.T, open OpenPeople) {
	t.Run("notices wait until they are done", func(t *testing.T) { testOutboxDone(t, open(t, 2)) })
	t.Run("so many", open.one(testOutboxSome))
	t.Run("so old", open.one(testOutboxAge))
	t.Run("ids are not given again", open.one(testOutboxIDs))
	t.Run("an end of patience", open.one(testOutboxContext))
}

func expectNotices(t *testing.T, got []relay.Notice, want ...relay.Notice) {
	t.Helper()
	same := slices.EqualFunc(got, want, func(a, b relay.Notice) bool {
		return a.ID == b.ID && string(a.Body) == string(b.Body) && slices.Equal(a.To, b.To)
	})
	if !same {
		t.Errorf("notices: %+v, want %+v", got, want)
	}
}

// notices makes so many.
func (p People) notices(t *testing.T, n int) (all []relay.Notice) {
	t.Helper()
	id := p.users(t, fmt.Sprint("sender ", t.Name()), fmt.Sprint("receiver ", t.Name()))
	for i := range n {
		_, notice, err := p.Posts.WriteTo(t.Context(), id[0], id[1], "x", fmt.Appendf(nil, `{"notification":%d}`, i))
		if err != nil || notice.ID == 0 {
			t.Fatalf("WriteTo: %+v, %v", notice, err)
		}
		all = append(all, notice)
	}
	return all
}

func testOutboxDone(t *testing.T, nodes []People) {
	p := nodes[0]
	expectNotices(t, p.pending(t))
	id := p.users(t, "alice", "bob", "carol", "dave")
	_, made, err := p.Groups.CreateGroup(t.Context(), relay.Group{Name: "group", Creator: id[0], Members: id}, "first",
		[]byte("created"), []byte{0, 0xff, '\''})
	if err != nil {
		t.Fatal(err)
	}
	_, written, err := p.Posts.WriteTo(t.Context(), id[0], id[1], "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	all := append(made, written)
	for _, node := range nodes {
		expectNotices(t, node.pending(t), all...)
	}
	expectNotices(t, p.pending(t), all...) // looking takes nothing
	for range 2 {
		if err := nodes[1].Outbox.Done(t.Context(), all[1].ID, 1<<40, -1, all[1].ID); err != nil {
			t.Errorf("Done: %v", err)
		}
		expectNotices(t, p.pending(t), all[0], all[2])
	}
	if err := p.Outbox.Done(t.Context()); err != nil {
		t.Errorf("Done with nothing: %v", err)
	}
	// The notices of a group outlive it.
	if _, err := p.Groups.Leave(t.Context(), "group", id[0]); err != nil {
		t.Error(err)
	}
	expectNotices(t, p.pending(t), all[0], all[2])
	if err := p.Outbox.Done(t.Context(), all[0].ID, all[2].ID); err != nil {
		t.Errorf("Done: %v", err)
	}
	expectNotices(t, p.pending(t))
}

func testOutboxSome(t *testing.T, p People) {
	all := p.notices(t, 5)
	for n := range 7 {
		got, err := p.Outbox.Pending(t.Context(), 0, n)
		if err != nil {
			t.Errorf("Pending: %v", err)
		}
		expectNotices(t, got, all[:min(n, 5)]...)
	}
	many := []int64{}
	for _, n := range all[1:] {
		many = append(many, n.ID)
	}
	for i := range int64(3000) { // more than go into one statement
		many = append(many, 1<<40+i)
	}
	slices.Reverse(many)
	before := slices.Clone(many)
	if err := p.Outbox.Done(t.Context(), many...); err != nil {
		t.Errorf("Done: %v", err)
	}
	if !slices.Equal(many, before) {
		t.Error("Done has changed what it was given")
	}
	expectNotices(t, p.pending(t), all[0])
}

func testOutboxAge(t *testing.T, p People) {
	const age = 300 * time.Millisecond
	began := time.Now()
	all := p.notices(t, 2)
	for {
		got, err := p.Outbox.Pending(t.Context(), age, 10)
		took := time.Since(began)
		if err != nil || len(got) > 0 && took < age {
			t.Fatalf("after %v: %+v, %v", took, got, err)
		}
		if len(got) == 2 {
			expectNotices(t, got, all...)
			break
		}
		if took > Patience {
			t.Fatalf("after %v: %+v", took, got)
		}
	}
	if got, err := p.Outbox.Pending(t.Context(), time.Hour, 10); err != nil || len(got) != 0 {
		t.Errorf("an hour old: %+v, %v", got, err)
	}
}

// The id of a notice that is gone names no other one: Done may come late.
func testOutboxIDs(t *testing.T, p People) {
	seen := map[int64]bool{}
	id := p.users(t, "alice", "bob")
	for range 10 {
		_, n, err := p.Posts.WriteTo(t.Context(), id[0], id[1], "x", nil)
		if err != nil {
			t.Fatal(err)
		}
		if seen[n.ID] {
			t.Errorf("the id %d was given before", n.ID)
		}
		seen[n.ID] = true
		if err := p.Outbox.Done(t.Context(), n.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func testOutboxContext(t *testing.T, p People) {
	all := p.notices(t, 1)
	if _, err := p.Outbox.Pending(ended(t), 0, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Pending: %v", err)
	}
	if err := p.Outbox.Done(ended(t), all[0].ID); !errors.Is(err, context.Canceled) {
		t.Errorf("Done: %v", err)
	}
	expectNotices(t, p.pending(t), all...)
}
