package relaytest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/relay"
)

// Many write the first post of a conversation at once, in both directions.
func testPostsBegin(t *testing.T, nodes []People) {
	const rounds, writers = 5, 8
	for i := range rounds {
		id := nodes[0].users(t, fmt.Sprint("alice ", i), fmt.Sprint("bob ", i))
		atOnce(writers, func(w int) {
			nodes[w%len(nodes)].writeTo(t, id[w%2], id[1-w%2], fmt.Sprint(w))
		})
		posts, more, err := nodes[0].Posts.Page(t.Context(), id[0], id[1], 0, 2*writers)
		if err != nil || more || len(posts) != writers {
			t.Errorf("%d posts, more %v, %v; want %d", len(posts), more, err, writers)
		}
	}
}

// Several write on several nodes, and several read meanwhile: what one has seen is never
// preceded by something that he has not.
func testPostsOrder(t *testing.T, nodes []People) {
	const writers, each = 4, 20
	id := nodes[0].users(t, "alice", "bob", "carol")
	nodes[0].group(t, "group", id[0], id...)
	conversations := map[string]struct {
		write func(p People, w int, text string) (relay.Post, relay.Notice, error)
		page  func(p People) ([]relay.Post, bool, error)
	}{
		"private": {
			func(p People, w int, text string) (relay.Post, relay.Notice, error) {
				return p.Posts.WriteTo(t.Context(), id[w%2], id[1-w%2], text, []byte("x"))
			},
			func(p People) ([]relay.Post, bool, error) {
				return p.Posts.Page(t.Context(), id[0], id[1], 0, 2*writers*each)
			},
		},
		"group": {
			func(p People, w int, text string) (relay.Post, relay.Notice, error) {
				return p.Posts.WriteToGroup(t.Context(), id[w%3], "group", text, []byte("x"))
			},
			func(p People) ([]relay.Post, bool, error) {
				return p.Posts.GroupPage(t.Context(), id[2], "group", 0, 2*writers*each)
			},
		},
	}
	for name, c := range conversations {
		var done atomic.Int32
		var readers sync.WaitGroup
		for _, p := range nodes {
			readers.Go(func() {
				pace := time.NewTicker(5 * time.Millisecond) // so that writers get on
				defer pace.Stop()
				var seen []string
				for last := false; !last; <-pace.C {
					last = done.Load() == writers
					posts, _, err := c.page(p)
					if err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
					now := []string{}
					for _, post := range slices.Backward(posts) {
						now = append(now, post.ID)
					}
					if len(now) < len(seen) || !slices.Equal(now[:len(seen)], seen) {
						t.Errorf("%s: %q was to be seen, and then %q", name, seen, now)
						return
					}
					seen = now
				}
			})
		}
		atOnce(writers, func(w int) {
			defer done.Add(1)
			for i := range each {
				pause()
				if _, _, err := c.write(nodes[w%len(nodes)], w, fmt.Sprint(w, " ", i)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
		readers.Wait()
		posts, more, err := c.page(nodes[0])
		if err != nil || more || len(posts) != writers*each {
			t.Errorf("%s: %d posts, more %v, %v; want %d", name, len(posts), more, err, writers*each)
		}
		// Each writer's posts are in his order.
		next := map[string]int{}
		for _, post := range slices.Backward(posts) {
			writer, number, _ := strings.Cut(post.Text, " ")
			if number != fmt.Sprint(next[writer]) {
				t.Errorf("%s: %q comes when number %d was due", name, post.Text, next[writer])
			}
			next[writer]++
		}
	}
}

// Several pull at once while somebody writes: each post goes to one of them.
func testPostsPullOnce(t *testing.T, nodes []People) {
	const pullers, total = 6, 120
	id := nodes[0].users(t, "alice", "bob")
	var mu sync.Mutex
	times := map[string]int{}
	var pulled atomic.Int32
	deadline := time.Now().Add(Patience)
	atOnce(pullers+2, func(w int) {
		p := nodes[w%len(nodes)]
		if w >= pullers {
			for i := range total / 2 {
				pause()
				p.writeTo(t, id[1], id[0], fmt.Sprint(w, " ", i))
				p.writeTo(t, id[0], id[1], "mine")
			}
			return
		}
		pace := time.NewTicker(time.Millisecond) // so that writers get on
		defer pace.Stop()
		for ; pulled.Load() < total && time.Now().Before(deadline); <-pace.C {
			posts, _, err := p.Posts.Pull(t.Context(), id[0], id[1], "", 3, allBytes)
			if err != nil {
				t.Errorf("Pull: %v", err)
				return
			}
			mu.Lock()
			for _, post := range posts {
				times[post.Text]++
			}
			mu.Unlock()
			pulled.Add(int32(len(posts)))
		}
	})
	if len(times) != total || times["mine"] > 0 {
		t.Errorf("%d posts were pulled, want %d", len(times), total)
	}
	for text, n := range times {
		if n != 1 {
			t.Errorf("%q was pulled %d times", text, n)
		}
	}
	nodes[0].expectPull(t, id[0], id[1], 10, allBytes, false)
}
