package relaytest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/pkg/relay"
)

// Posts holds an implementation to the contract of relay.Posts.
func Posts(t *testing.T, open OpenPeople) {
	t.Run("posts are kept as they are", open.one(testPostsContent))
	t.Run("what cannot be written", open.one(testPostsRefused))
	t.Run("notices", open.one(testPostsNotices))
	t.Run("conversations are apart", open.one(testPostsApart))
	t.Run("pull", open.one(testPostsPull))
	t.Run("pull again", open.one(testPostsPullAgain))
	t.Run("pull so many", open.one(testPostsPullBounds))
	t.Run("pages", open.one(testPostsPages))
	t.Run("pages of a group", open.one(testPostsGroupPages))
	t.Run("an end of patience", open.one(testPostsContext))
	t.Run("many begin a conversation", func(t *testing.T) { testPostsBegin(t, open(t, 3)) })
	t.Run("one order for all", func(t *testing.T) { testPostsOrder(t, open(t, 3)) })
	t.Run("each post is pulled once", func(t *testing.T) { testPostsPullOnce(t, open(t, 3)) })
}

// write writes to a group.
func (p People) write(t *testing.T, sender int64, group, text string) relay.Post {
	t.Helper()
	post, _, err := p.Posts.WriteToGroup(t.Context(), sender, group, text, nil)
	if err != nil {
		t.Errorf("WriteToGroup: %v", err)
	}
	return post
}

// writeTo writes to another one.
func (p People) writeTo(t *testing.T, sender, receiver int64, texts ...string) (posts []relay.Post) {
	t.Helper()
	for _, text := range texts {
		post, _, err := p.Posts.WriteTo(t.Context(), sender, receiver, text, nil)
		if err != nil {
			t.Errorf("WriteTo: %v", err)
		}
		posts = append(posts, post)
	}
	return posts
}

func texts(posts []relay.Post) []string {
	all := []string{}
	for _, p := range posts {
		all = append(all, p.Text)
	}
	return all
}

func (p People) expectGroupPage(t *testing.T, user int64, group string, index, n int, wantMore bool, want ...string) {
	t.Helper()
	posts, more, err := p.Posts.GroupPage(t.Context(), user, group, index, n)
	if err != nil || more != wantMore || !slices.Equal(texts(posts), want) {
		t.Errorf("page %d of %q: %q, more %v, %v; want %q, more %v", index, group, texts(posts), more, err, want, wantMore)
	}
}

func (p People) expectPage(t *testing.T, user, other int64, index, n int, wantMore bool, want ...string) {
	t.Helper()
	for _, pair := range [][2]int64{{user, other}, {other, user}} {
		posts, more, err := p.Posts.Page(t.Context(), pair[0], pair[1], index, n)
		if err != nil || more != wantMore || !slices.Equal(texts(posts), want) {
			t.Errorf("page %d: %q, more %v, %v; want %q, more %v", index, texts(posts), more, err, want, wantMore)
		}
	}
}

// allBytes is more than all posts of a test but the long one.
const allBytes = 1 << 20

func (p People) expectPull(t *testing.T, user, other int64, n, bytes int, wantMore bool, want ...string) {
	t.Helper()
	posts, more, err := p.Posts.Pull(t.Context(), user, other, "", n, bytes)
	if err != nil || more != wantMore || !slices.Equal(texts(posts), want) {
		t.Errorf("Pull %d of %d: %q, more %v, %v; want %q, more %v", n, bytes, texts(posts), more, err, want, wantMore)
	}
	for _, post := range posts {
		if post.Sender != other {
			t.Errorf("Pull: %+v is not of %d", post, other)
		}
	}
}

func testPostsContent(t *testing.T, p People) {
	id := p.users(t, "alice", "bob")
	p.group(t, "group", id[0], id...)
	all := []string{"hello", "", " spaces ", "\x00\xff'\"\\\x1a\n%_", "\U0001f600", strings.Repeat("long ", 100_000)}
	var private, group []relay.Post
	began := time.Now().Truncate(time.Millisecond)
	for i, text := range all {
		post, _, err := p.Posts.WriteTo(t.Context(), id[i%2], id[1-i%2], text, nil)
		if err != nil {
			t.Fatalf("WriteTo: %v", err)
		}
		private = append(private, post)
		group = append(group, p.write(t, id[i%2], "group", text))
	}
	seen := map[string]bool{}
	for name, c := range map[string]struct {
		written []relay.Post
		read    func() ([]relay.Post, bool, error)
	}{
		"private": {private, func() ([]relay.Post, bool, error) { return p.Posts.Page(t.Context(), id[0], id[1], 0, 20) }},
		"group":   {group, func() ([]relay.Post, bool, error) { return p.Posts.GroupPage(t.Context(), id[1], "group", 0, 20) }},
	} {
		got, more, err := c.read()
		slices.Reverse(got)
		if err != nil || more || len(got) != len(all) {
			t.Fatalf("%s: %d posts, more %v, %v", name, len(got), more, err)
		}
		for i, post := range got {
			if w := c.written[i]; post.ID != w.ID || post.Text != w.Text || post.Sender != w.Sender || !post.Time.Equal(w.Time) {
				t.Errorf("%s %d: %q of %d, want %q of %d", name, i, post.ID, post.Sender, w.ID, w.Sender)
			}
			// The database is on this machine.
			if post.Text != all[i] || post.Sender != id[i%2] || post.Time.Before(began) || post.Time.After(time.Now()) ||
				post.Time.Nanosecond()%int(time.Millisecond) != 0 {
				t.Errorf("%s %d: a text of %d bytes of %d at %v", name, i, len(post.Text), post.Sender, post.Time)
			}
			if seen[post.ID] || post.ID == "" {
				t.Errorf("%s %d: the id %q is not its own", name, i, post.ID)
			}
			seen[post.ID] = true
		}
	}
	pulled, more, err := p.Posts.Pull(t.Context(), id[0], id[1], "", 20, allBytes)
	if err != nil || more || len(pulled) != 3 || pulled[2].ID != private[5].ID || pulled[2].Text != all[5] || !pulled[2].Time.Equal(private[5].Time) {
		t.Errorf("Pull: %d posts, more %v, %v", len(pulled), more, err)
	}
}

func testPostsRefused(t *testing.T, p People) {
	id := p.users(t, "alice", "bob")
	p.group(t, "group", id[0])
	for _, user := range nobody {
		post, notice, err := p.Posts.WriteTo(t.Context(), id[0], user, "x", nil)
		expect(t, "to nobody", err, relay.ErrNoUser)
		if post.ID != "" || notice.ID != 0 {
			t.Errorf("WriteTo failed and returned %+v, %+v", post, notice)
		}
		p.expectPage(t, id[0], user, 0, 20, false)
		p.expectPull(t, id[0], user, 20, allBytes, false)
	}
	if _, _, err := p.Posts.WriteTo(t.Context(), id[0], id[0], "x", nil); err == nil || errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("to oneself: %v", err)
	}
	post, notice, err := p.Posts.WriteToGroup(t.Context(), id[1], "group", "x", nil)
	expect(t, "a stranger", err, relay.ErrNotMember)
	if post.ID != "" || notice.ID != 0 {
		t.Errorf("WriteToGroup failed and returned %+v, %+v", post, notice)
	}
	_, _, err = p.Posts.WriteToGroup(t.Context(), id[1], "nothing", "x", nil)
	expect(t, "to no group", err, relay.ErrNoGroup)
	_, _, err = p.Posts.GroupPage(t.Context(), id[1], "group", 0, 20)
	expect(t, "a stranger reads", err, relay.ErrNotMember)
	_, _, err = p.Posts.GroupPage(t.Context(), id[1], "nothing", 0, 20)
	expect(t, "a page of no group", err, relay.ErrNoGroup)
	p.expectGroupPage(t, id[0], "group", 0, 20, false)
	if left := p.pending(t); len(left) != 0 {
		t.Errorf("notices: %+v", left)
	}
}

func testPostsNotices(t *testing.T, p People) {
	id := p.users(t, "alice", "bob", "carol")
	_, n, err := p.Posts.WriteTo(t.Context(), id[0], id[1], "x", []byte("private"))
	if err != nil {
		t.Fatal(err)
	}
	expectNotice(t, "WriteTo", n, "private", id[1])
	p.group(t, "group", id[0], id...)
	_, n, err = p.Posts.WriteToGroup(t.Context(), id[1], "group", "x", []byte("group"))
	if err != nil {
		t.Fatal(err)
	}
	expectNotice(t, "WriteToGroup", n, "group", id[0], id[2])
	p.group(t, "alone", id[0])
	_, n, err = p.Posts.WriteToGroup(t.Context(), id[0], "alone", "x", []byte("alone"))
	if err != nil {
		t.Fatal(err)
	}
	expectNotice(t, "alone", n, "")
}

func testPostsApart(t *testing.T, p People) {
	id := p.users(t, "alice", "bob", "carol")
	p.group(t, "group", id[0], id...)
	p.writeTo(t, id[0], id[1], "ab")
	p.writeTo(t, id[0], id[2], "ac")
	p.writeTo(t, id[2], id[1], "cb")
	p.write(t, id[0], "group", "all")
	p.expectPage(t, id[0], id[1], 0, 20, false, "ab")
	p.expectPage(t, id[0], id[2], 0, 20, false, "ac")
	p.expectPage(t, id[1], id[2], 0, 20, false, "cb")
	p.expectGroupPage(t, id[2], "group", 0, 20, false, "all")
	p.expectPull(t, id[1], id[0], 20, allBytes, false, "ab")
	p.expectPull(t, id[1], id[2], 20, allBytes, false, "cb")
	p.expectPull(t, id[0], id[1], 20, allBytes, false)
}

func testPostsPull(t *testing.T, p People) {
	id := p.users(t, "alice", "bob")
	for _, c := range [][2]int64{{id[0], id[1]}, {id[1], id[0]}} { // either has the lower id
		me, other := c[0], c[1]
		p.expectPull(t, me, other, 20, allBytes, false)
		p.writeTo(t, other, me, "one", "two")
		p.writeTo(t, me, other, "mine")
		p.writeTo(t, other, me, "three")
		p.expectPull(t, me, other, 20, allBytes, false, "one", "two", "three")
		p.expectPull(t, me, other, 20, allBytes, false)
		p.writeTo(t, me, other, "mine too")
		p.expectPull(t, me, other, 20, allBytes, false)
		p.writeTo(t, other, me, "four")
		// What the other one pulls, and pages, move nothing of mine.
		p.expectPull(t, other, me, 20, allBytes, false, "mine", "mine too")
		if _, _, err := p.Posts.Page(t.Context(), me, other, 0, 20); err != nil {
			t.Error(err)
		}
		p.expectPull(t, me, other, 20, allBytes, false, "four")
		p.expectPull(t, me, other, 20, allBytes, false)
		p.expectPull(t, other, me, 20, allBytes, false)
	}
}

// A pull is repeated by its key, by the one whose it was, until another one has taken
// something.
func testPostsPullAgain(t *testing.T, p People) {
	id := p.users(t, "alice", "bob")
	for _, c := range [][2]int64{{id[0], id[1]}, {id[1], id[0]}} { // either has the lower id
		me, other := c[0], c[1]
		pull := func(user, other int64, key string, wantMore bool, want ...string) {
			t.Helper()
			posts, more, err := p.Posts.Pull(t.Context(), user, other, key, 2, allBytes)
			if err != nil || more != wantMore || !slices.Equal(texts(posts), want) {
				t.Errorf("Pull with key %q: %q, more %v, %v; want %q, more %v", key, texts(posts), more, err, want, wantMore)
			}
		}
		pull(me, other, "a", false)
		p.writeTo(t, other, me, "1")
		p.writeTo(t, me, other, "mine")
		p.writeTo(t, other, me, "2", "3")
		pull(me, other, "a", true, "1", "2") // what has returned nothing may return something
		pull(me, other, "a", true, "1", "2")
		pull(other, me, "a", false, "mine") // its own, though the key is the same
		p.writeTo(t, other, me, "4")
		pull(me, other, "a", true, "1", "2")
		pull(me, other, "b", false, "3", "4")
		pull(me, other, "b", false, "3", "4")
		pull(me, other, "a", false) // that was not the last one
		p.writeTo(t, me, other, "mine")
		pull(me, other, "", false)
		pull(me, other, "b", false, "3", "4") // what has found nothing of the other one does not count
		p.writeTo(t, other, me, "5")
		pull(me, other, "b", true, "3", "4")
		pull(me, other, "", false, "5")
		pull(me, other, "", false) // no key is no key
		pull(other, me, "", false, "mine")
	}
	key := strings.Repeat("x", relay.MaxPullKey)
	p.writeTo(t, id[0], id[1], "last")
	for range 2 {
		posts, _, err := p.Posts.Pull(t.Context(), id[1], id[0], key, 20, allBytes)
		if err != nil || !slices.Equal(texts(posts), []string{"last"}) {
			t.Errorf("with the longest key: %q, %v", texts(posts), err)
		}
	}
	if _, _, err := p.Posts.Pull(t.Context(), id[1], id[0], key+"x", 20, allBytes); err == nil || errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("with a longer key: %v", err)
	}
}

func testPostsPullBounds(t *testing.T, p People) {
	id := p.users(t, "alice", "bob")
	me, other := id[0], id[1]
	p.writeTo(t, other, me, "1", "2", "3")
	p.writeTo(t, me, other, "mine")
	p.writeTo(t, other, me, "4", "5")
	p.writeTo(t, me, other, "mine")
	p.expectPull(t, me, other, 2, allBytes, true, "1", "2")
	p.expectPull(t, me, other, 1, allBytes, true, "3")
	p.expectPull(t, me, other, 2, allBytes, false, "4", "5") // exactly so many are left
	p.expectPull(t, me, other, 2, allBytes, false)

	p.writeTo(t, other, me, "aaaa", "bbbb", "cc", "dddd", strings.Repeat("e", 100), "f")
	p.expectPull(t, me, other, 20, 10, true, "aaaa", "bbbb", "cc") // exactly so long
	p.expectPull(t, me, other, 20, 3, true, "dddd")                // one at least
	p.expectPull(t, me, other, 20, 100, true, strings.Repeat("e", 100))
	p.expectPull(t, me, other, 20, 0, false, "f")
	p.expectPull(t, me, other, 20, 0, false)
}

func numbered(from, to int) (all []string) {
	for i := from; i >= to; i-- {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func testPostsPages(t *testing.T, p People) {
	id := p.users(t, "alice", "bob")
	for i := 1; i <= 41; i++ {
		p.writeTo(t, id[i%2], id[1-i%2], fmt.Sprint(i))
		switch i {
		case 1:
			p.expectPage(t, id[0], id[1], 0, 20, false, "1")
		case 20:
			p.expectPage(t, id[0], id[1], 0, 20, false, numbered(20, 1)...)
			p.expectPage(t, id[0], id[1], 1, 20, false)
		}
	}
	p.expectPage(t, id[0], id[1], 0, 20, true, numbered(41, 22)...)
	p.expectPage(t, id[0], id[1], 1, 20, true, numbered(21, 2)...)
	p.expectPage(t, id[0], id[1], 2, 20, false, "1")
	p.expectPage(t, id[0], id[1], 40, 1, false, "1")
	p.expectPage(t, id[0], id[1], 39, 1, true, "2")
	p.expectPage(t, id[0], id[1], 0, 41, false, numbered(41, 1)...)
	for _, index := range []int{3, 41, 1e9, math.MaxInt32, math.MaxInt, -1} {
		p.expectPage(t, id[0], id[1], index, 20, false)
		p.expectPage(t, id[0], id[1], index, math.MaxInt, false)
	}
	// Nothing has moved.
	if posts, _, err := p.Posts.Pull(t.Context(), id[0], id[1], "", 100, allBytes); err != nil || len(posts) != 21 {
		t.Errorf("Pull: %d posts, %v", len(posts), err)
	}
}

func testPostsGroupPages(t *testing.T, p People) {
	id := p.users(t, "alice", "bob", "carol")
	p.group(t, "group", id[0], id[1])
	for i := 1; i <= 21; i++ {
		p.write(t, id[i%2], "group", fmt.Sprint(i))
	}
	if _, _, err := p.Groups.AddMember(t.Context(), "group", id[0], id[2], nil); err != nil {
		t.Fatal(err)
	}
	for _, user := range id {
		p.expectGroupPage(t, user, "group", 0, 20, true, numbered(21, 2)...)
		p.expectGroupPage(t, user, "group", 1, 20, false, "1")
		p.expectGroupPage(t, user, "group", 2, 20, false)
		p.expectGroupPage(t, user, "group", math.MaxInt, 20, false)
	}
}

func testPostsContext(t *testing.T, p People) {
	id := p.users(t, "alice", "bob")
	p.group(t, "group", id[0])
	p.writeTo(t, id[1], id[0], "kept")
	for what, call := range map[string]func(context.Context) error{
		"WriteTo": func(ctx context.Context) error {
			_, _, err := p.Posts.WriteTo(ctx, id[0], id[1], "x", nil)
			return err
		},
		"WriteToGroup": func(ctx context.Context) error {
			_, _, err := p.Posts.WriteToGroup(ctx, id[0], "group", "x", nil)
			return err
		},
		"Pull": func(ctx context.Context) error { _, _, err := p.Posts.Pull(ctx, id[0], id[1], "", 1, 1); return err },
		"Page": func(ctx context.Context) error { _, _, err := p.Posts.Page(ctx, id[0], id[1], 0, 1); return err },
		"GroupPage": func(ctx context.Context) error {
			_, _, err := p.Posts.GroupPage(ctx, id[0], "group", 0, 1)
			return err
		},
	} {
		if err := call(ended(t)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	p.expectPage(t, id[0], id[1], 0, 20, false, "kept")
	p.expectGroupPage(t, id[0], "group", 0, 20, false)
	p.expectPull(t, id[0], id[1], 20, allBytes, false, "kept")
}
