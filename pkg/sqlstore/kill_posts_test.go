package sqlstore

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// The database is killed, again and again, while posts are written and pulled. What it
// has confirmed is there afterwards; no post is there without its notice, nor a notice
// without its post; no number is left out; and no post is pulled twice.
func TestKillsLoseNoPosts(t *testing.T) {
	relaytest.NoLeaks(t)
	const writers, kills = 4, 4
	server := relaytest.StartMariaDB(t)
	s := open(t, server.NewURL(t))
	users := fillUsers(t, s, writers)
	if _, _, err := s.Groups().CreateGroup(t.Context(), relay.Group{Name: "group", Creator: users[0], Members: users}, "", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Outbox().Done(t.Context(), 1); err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	confirmed := map[string]relay.Post{} // by text
	pulled := map[string]int{}           // by id
	var rounds atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	unavailable := func(what string, err error) {
		if err != nil && !errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	keep := func(p relay.Post, n relay.Notice, err error) {
		unavailable("write", err)
		if err != nil {
			return
		}
		if n.ID == 0 || string(n.Body) != p.Text {
			t.Errorf("the notice of %q is %+v", p.Text, n)
		}
		mu.Lock()
		defer mu.Unlock()
		confirmed[p.Text] = p
		rounds.Add(1)
	}
	for w := range writers {
		wg.Go(func() {
			pace := time.NewTicker(2 * time.Millisecond) // while the database refuses
			defer pace.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-pace.C:
				}
				text := fmt.Sprintf("to the group %d.%d", w, i)
				keep(s.Posts().WriteToGroup(t.Context(), users[w], "group", text, []byte(text)))
				// All write to the first, and the first to all.
				from, to := users[0], users[max(w, 1)]
				if i%2 == 0 {
					from, to = to, from
				}
				text = fmt.Sprintf("to another %d.%d", w, i)
				keep(s.Posts().WriteTo(t.Context(), from, to, text, []byte(text)))
				posts, _, err := s.Posts().Pull(t.Context(), users[0], users[max(w, 1)], "", 10, 1<<20)
				unavailable("Pull", err)
				mu.Lock()
				for _, p := range posts {
					pulled[p.ID]++
				}
				mu.Unlock()
			}
		})
	}
	for range kills {
		before := rounds.Load()
		relaytest.Eventually(t, "writers get on", func() bool { return rounds.Load() > before+50*writers })
		server.Kill()
		server.Restart(t)
	}
	close(stop)
	wg.Wait()
	relaytest.Eventually(t, "the database is back", func() bool { return s.Ping(t.Context()) == nil })

	there := map[string]relay.Post{}
	read := func(what string, page func(index int) ([]relay.Post, bool, error)) {
		for index, next := 0, 0; ; index++ {
			posts, more, err := page(index)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			for _, p := range posts {
				var conversation, seq int
				if _, err := fmt.Sscanf(p.ID, "%d-%d", &conversation, &seq); err != nil || next != 0 && seq != next {
					t.Errorf("%s: %q comes where number %d was due (%v)", what, p.ID, next, err)
				}
				next = seq - 1
				if _, found := there[p.Text]; found {
					t.Errorf("%s: %q is there twice", what, p.Text)
				}
				there[p.Text] = p
			}
			if !more {
				if next != 0 {
					t.Errorf("%s: it ends before number %d", what, next)
				}
				return
			}
		}
	}
	read("group", func(index int) ([]relay.Post, bool, error) {
		return s.Posts().GroupPage(t.Context(), users[0], "group", index, 50)
	})
	for _, other := range users[1:] {
		read("private", func(index int) ([]relay.Post, bool, error) {
			return s.Posts().Page(t.Context(), users[0], other, index, 50)
		})
	}
	for text, p := range confirmed {
		if got := there[text]; got.ID != p.ID || got.Sender != p.Sender || !got.Time.Equal(p.Time) {
			t.Errorf("%+v was confirmed, and is %+v", p, got)
		}
	}
	noticed := map[string]bool{}
	err := each(t.Context(), s.read, func(rows *sql.Rows) error {
		var body []byte
		err := rows.Scan(&body)
		if noticed[string(body)] {
			t.Errorf("%q has two notices", body)
		}
		noticed[string(body)] = true
		return err
	}, "SELECT body FROM outbox")
	if err != nil {
		t.Fatal(err)
	}
	for text := range there {
		if !noticed[text] {
			t.Errorf("%q has no notice", text)
		}
		delete(noticed, text)
	}
	if len(noticed) > 0 {
		t.Errorf("notices without posts: %v", noticed)
	}
	for id, n := range pulled {
		if n != 1 {
			t.Errorf("%q was pulled %d times", id, n)
		}
	}
	// What is there and was not pulled by an answered call is still to be pulled, or was
	// pulled by a call that failed.
	for _, other := range users[1:] {
		if posts, more, err := s.Posts().Pull(t.Context(), users[0], other, "", maxPage, 1<<20); err != nil || more ||
			slices.ContainsFunc(posts, func(p relay.Post) bool { return pulled[p.ID] > 0 }) {
			t.Errorf("the rest: %d posts, more %v, %v", len(posts), more, err)
		}
	}
	t.Logf("%d posts were confirmed, %d are there, %d were pulled", len(confirmed), len(there), len(pulled))
}
