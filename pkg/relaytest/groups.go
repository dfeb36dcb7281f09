package relaytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"parley/pkg/relay"
)

// Groups holds an implementation to the contract of relay.Groups. The bounds are left to
// it, since it takes long to come there.
func Groups(t *testing.T, open OpenPeople) {
	t.Run("a group is made and found", open.one(testGroupsFound))
	t.Run("a first post", open.one(testGroupsFirst))
	t.Run("what cannot be made", open.one(testGroupsRefused))
	t.Run("names are exact", open.one(testGroupsNames))
	t.Run("members come", open.one(testGroupsAdd))
	t.Run("members go", open.one(testGroupsLeave))
	t.Run("a group is deleted", open.one(testGroupsDeleted))
	t.Run("made again under its name", open.one(testGroupsAgain))
	t.Run("an end of patience", open.one(testGroupsContext))
	t.Run("many want one name", func(t *testing.T) { testGroupsMany(t, open(t, 3)) })
	t.Run("members come and go at once", func(t *testing.T) { testGroupsRestless(t, open(t, 3)) })
}

// group makes a group without a post.
func (p People) group(t *testing.T, name string, creator int64, members ...int64) relay.Group {
	t.Helper()
	g, _, err := p.Groups.CreateGroup(t.Context(), relay.Group{Name: name, Creator: creator, Members: members}, "", nil, nil)
	if err != nil {
		t.Fatalf("CreateGroup %q: %v", name, err)
	}
	return g
}

func (p People) expectGroup(t *testing.T, name string, creator int64, members ...int64) {
	t.Helper()
	slices.Sort(members)
	g, err := p.Groups.Group(t.Context(), name)
	if err != nil || g.Name != name || g.Creator != creator || !slices.Equal(g.Members, members) {
		t.Errorf("Group: %+v, %v; want %q of %d with %v", g, err, name, creator, members)
	}
}

func (p People) expectGroupsOf(t *testing.T, user int64, want ...string) {
	t.Helper()
	if names, err := p.Groups.GroupsOf(t.Context(), user); err != nil || !slices.Equal(names, want) {
		t.Errorf("groups of %d: %q, %v; want %q", user, names, err, want)
	}
}

// expectNotice wants a notice with this body, for these, or none at all for nobody.
func expectNotice(t *testing.T, what string, n relay.Notice, body string, to ...int64) {
	t.Helper()
	got := slices.Sorted(slices.Values(n.To))
	slices.Sort(to)
	switch {
	case len(to) == 0 && n.ID != 0:
		t.Errorf("%s: the notice is %+v, want none", what, n)
	case len(to) > 0 && (n.ID == 0 || string(n.Body) != body || !slices.Equal(got, to)):
		t.Errorf("%s: the notice is %d, %q to %v; want %q to %v", what, n.ID, n.Body, got, body, to)
	}
}

// pending are all notices that wait.
func (p People) pending(t *testing.T) []relay.Notice {
	t.Helper()
	notices, err := p.Outbox.Pending(t.Context(), 0, 1000)
	if err != nil {
		t.Fatalf("Pending: %v", err)
	}
	return notices
}

func testGroupsFound(t *testing.T, p People) {
	id := p.users(t, "alice", "bob", "carol")
	for name, c := range map[string]struct{ asked, want []int64 }{
		"only the creator":   {nil, id[:1]},
		"with the creator":   {[]int64{id[0], id[1]}, id[:2]},
		"again and again":    {[]int64{id[2], id[1], id[2], id[0], id[1]}, id},
		"without the others": {[]int64{id[0], id[0]}, id[:1]},
	} {
		asked := slices.Clone(c.asked)
		g, notices, err := p.Groups.CreateGroup(t.Context(), relay.Group{Name: name, Creator: id[0], Members: asked}, "", []byte("created"), []byte("posted"))
		if err != nil || g.Name != name || g.Creator != id[0] || !slices.Equal(g.Members, c.want) || len(notices) != 2 {
			t.Errorf("%s: %+v, %d notices, %v", name, g, len(notices), err)
			continue
		}
		if !slices.Equal(asked, c.asked) {
			t.Errorf("%s: the caller's members have become %v", name, asked)
		}
		expectNotice(t, name, notices[0], "created", c.want[1:]...)
		expectNotice(t, name, notices[1], "")
		p.expectGroup(t, name, id[0], c.want...)
	}
	p.expectGroupsOf(t, id[0], "again and again", "only the creator", "with the creator", "without the others")
	p.expectGroupsOf(t, id[1], "again and again", "with the creator")
	p.expectGroupsOf(t, id[2], "again and again")
	for _, user := range nobody {
		p.expectGroupsOf(t, user)
	}
	for _, name := range []string{"", "nothing", "Only the creator", "only the creator "} {
		_, err := p.Groups.Group(t.Context(), name)
		expect(t, name, err, relay.ErrNoGroup)
	}
}

func testGroupsFirst(t *testing.T, p People) {
	id := p.users(t, "alice", "bob", "carol")
	g := relay.Group{Name: "group", Creator: id[1], Members: id}
	_, notices, err := p.Groups.CreateGroup(t.Context(), g, "hello", []byte("created"), []byte("posted"))
	if err != nil || len(notices) != 2 {
		t.Fatalf("CreateGroup: %d notices, %v", len(notices), err)
	}
	expectNotice(t, "created", notices[0], "created", id[0], id[2])
	expectNotice(t, "posted", notices[1], "posted", id[0], id[2])
	for _, user := range id {
		p.expectGroupPage(t, user, "group", 0, 20, false, "hello")
	}
	posts, _, err := p.Posts.GroupPage(t.Context(), id[0], "group", 0, 20)
	if err != nil || len(posts) != 1 || posts[0].Sender != id[1] {
		t.Errorf("the first post is %+v, %v", posts, err)
	}
}

// What fails changes nothing.
func testGroupsRefused(t *testing.T, p People) {
	id := p.users(t, "alice", "bob")
	p.group(t, "taken", id[1])
	before := len(p.pending(t))
	for _, user := range nobody {
		_, _, err := p.Groups.CreateGroup(t.Context(), relay.Group{Name: "new", Creator: id[0], Members: []int64{id[1], user}}, "x", nil, nil)
		expect(t, "a member that is not", err, relay.ErrNoUser)
		_, _, err = p.Groups.CreateGroup(t.Context(), relay.Group{Name: "new", Creator: user, Members: []int64{id[1]}}, "x", nil, nil)
		expect(t, "a creator that is not", err, relay.ErrNoUser)
	}
	g, notices, err := p.Groups.CreateGroup(t.Context(), relay.Group{Name: "taken", Creator: id[0], Members: id}, "x", nil, nil)
	expect(t, "a name that is taken", err, relay.ErrGroupTaken)
	if len(g.Members) != 0 || len(notices) != 0 {
		t.Errorf("CreateGroup failed and returned %+v, %+v", g, notices)
	}
	_, err = p.Groups.Group(t.Context(), "new")
	expect(t, "Group", err, relay.ErrNoGroup)
	p.expectGroupsOf(t, id[0])
	p.expectGroupsOf(t, id[1], "taken")
	p.expectGroup(t, "taken", id[1], id[1])
	p.expectGroupPage(t, id[1], "taken", 0, 20, false)
	if after := len(p.pending(t)); after != before {
		t.Errorf("%d notices were made", after-before)
	}
}

func testGroupsNames(t *testing.T, p People) {
	alice := p.user(t, "alice").ID
	names := []string{"group", "Group", "group ", " group", "group\x00", "\u00e9", "e\u0301", "a/b", "%", "100%_\\", "'", "\U0001f600", "1"}
	for i, name := range names {
		if _, _, err := p.Groups.CreateGroup(t.Context(), relay.Group{Name: name, Creator: alice}, fmt.Sprint(i), nil, nil); err != nil {
			t.Errorf("CreateGroup %q: %v", name, err)
		}
	}
	for i, name := range names {
		p.expectGroup(t, name, alice, alice)
		p.expectGroupPage(t, alice, name, 0, 20, false, fmt.Sprint(i))
	}
	p.expectGroupsOf(t, alice, slices.Sorted(slices.Values(names))...)
}

func testGroupsAdd(t *testing.T, p People) {
	id := p.users(t, "alice", "bob", "carol", "dave", "eve")
	alice, bob, carol, dave, eve := id[0], id[1], id[2], id[3], id[4]
	p.group(t, "group", bob)
	p.write(t, bob, "group", "before")
	g, n, err := p.Groups.AddMember(t.Context(), "group", bob, carol, []byte("one"))
	if err != nil || g.Creator != bob || !slices.Equal(g.Members, []int64{bob, carol}) {
		t.Errorf("AddMember: %+v, %v", g, err)
	}
	expectNotice(t, "by the creator", n, "one", carol)
	g, n, err = p.Groups.AddMember(t.Context(), "group", carol, alice, []byte("two"))
	if err != nil || !slices.Equal(g.Members, []int64{alice, bob, carol}) {
		t.Errorf("AddMember: %+v, %v", g, err)
	}
	expectNotice(t, "by another member", n, "two", alice, bob)
	p.expectGroup(t, "group", bob, alice, bob, carol)
	p.expectGroupsOf(t, alice, "group")
	p.expectGroupPage(t, alice, "group", 0, 20, false, "before")

	before := len(p.pending(t))
	for _, user := range []int64{alice, bob} {
		g, n, err = p.Groups.AddMember(t.Context(), "group", bob, user, []byte("again"))
		if err != nil || !slices.Equal(g.Members, []int64{alice, bob, carol}) {
			t.Errorf("AddMember again: %+v, %v", g, err)
		}
		expectNotice(t, "again", n, "")
	}
	for _, c := range []struct {
		what     string
		name     string
		by, user int64
		want     error
	}{
		{"to nothing", "nothing", alice, dave, relay.ErrNoGroup},
		{"by a stranger", "group", dave, eve, relay.ErrNotMember},
		{"by oneself", "group", dave, dave, relay.ErrNotMember},
		{"by a stranger, of a member", "group", dave, alice, relay.ErrNotMember},
		{"nobody", "group", alice, 1 << 40, relay.ErrNoUser},
		{"nobody at all", "group", alice, -1, relay.ErrNoUser},
	} {
		g, n, err := p.Groups.AddMember(t.Context(), c.name, c.by, c.user, []byte("x"))
		expect(t, c.what, err, c.want)
		if g.Name != "" || n.ID != 0 {
			t.Errorf("%s: AddMember failed and returned %+v, %+v", c.what, g, n)
		}
	}
	p.expectGroup(t, "group", bob, alice, bob, carol)
	if after := len(p.pending(t)); after != before {
		t.Errorf("%d notices were made", after-before)
	}
}

func testGroupsLeave(t *testing.T, p People) {
	id := p.users(t, "alice", "bob", "carol", "dave")
	p.group(t, "group", id[1], id[:3]...)
	for _, c := range []struct {
		what, name string
		user       int64
		want       error
	}{
		{"nothing", "nothing", id[0], relay.ErrNoGroup},
		{"a stranger", "group", id[3], relay.ErrNotMember},
		{"a member", "group", id[0], nil},
		{"a former member", "group", id[0], relay.ErrNotMember},
	} {
		deleted, err := p.Groups.Leave(t.Context(), c.name, c.user)
		expect(t, c.what, err, c.want)
		if deleted {
			t.Errorf("%s: the group is deleted", c.what)
		}
	}
	p.expectGroup(t, "group", id[1], id[1], id[2])
	p.expectGroupsOf(t, id[0])
	_, _, err := p.Posts.WriteToGroup(t.Context(), id[0], "group", "x", nil)
	expect(t, "WriteToGroup", err, relay.ErrNotMember)
	_, _, err = p.Posts.GroupPage(t.Context(), id[0], "group", 0, 20)
	expect(t, "GroupPage", err, relay.ErrNotMember)
	if _, _, err := p.Groups.AddMember(t.Context(), "group", id[2], id[0], nil); err != nil {
		t.Errorf("AddMember again: %v", err)
	}
	p.expectGroupsOf(t, id[0], "group")
}

func testGroupsDeleted(t *testing.T, p People) {
	id := p.users(t, "alice", "bob", "carol")
	p.group(t, "group", id[0], id...)
	p.group(t, "other", id[1], id...)
	p.write(t, id[1], "group", "of the group")
	p.write(t, id[1], "other", "of the other")
	if deleted, err := p.Groups.Leave(t.Context(), "group", id[0]); err != nil || !deleted {
		t.Errorf("Leave: deleted %v, %v", deleted, err)
	}
	for _, user := range id {
		p.expectGroupsOf(t, user, "other")
		p.expectGroupPage(t, user, "other", 0, 20, false, "of the other")
		_, err := p.Groups.Group(t.Context(), "group")
		expect(t, "Group", err, relay.ErrNoGroup)
		_, _, err = p.Posts.GroupPage(t.Context(), user, "group", 0, 20)
		expect(t, "GroupPage", err, relay.ErrNoGroup)
		_, _, err = p.Posts.WriteToGroup(t.Context(), user, "group", "x", nil)
		expect(t, "WriteToGroup", err, relay.ErrNoGroup)
		_, _, err = p.Groups.AddMember(t.Context(), "group", user, user, nil)
		expect(t, "AddMember", err, relay.ErrNoGroup)
		_, err = p.Groups.Leave(t.Context(), "group", user)
		expect(t, "Leave", err, relay.ErrNoGroup)
	}
}

// A group that is made again under its name has nothing of the former one, nor the ids
// of its posts.
func testGroupsAgain(t *testing.T, p People) {
	id := p.users(t, "alice", "bob", "carol")
	seen := map[string]bool{}
	for i := range 5 {
		creator := id[i%2]
		p.group(t, "group", creator, id[i%3])
		p.expectGroupPage(t, creator, "group", 0, 20, false)
		for k := range 3 {
			post := p.write(t, creator, "group", fmt.Sprint(i, k))
			if seen[post.ID] {
				t.Errorf("the id %q was given before", post.ID)
			}
			seen[post.ID] = true
		}
		p.expectGroupPage(t, creator, "group", 0, 20, false, fmt.Sprint(i, 2), fmt.Sprint(i, 1), fmt.Sprint(i, 0))
		if deleted, err := p.Groups.Leave(t.Context(), "group", creator); err != nil || !deleted {
			t.Fatalf("Leave: deleted %v, %v", deleted, err)
		}
	}
}

func testGroupsContext(t *testing.T, p People) {
	id := p.users(t, "alice", "bob")
	p.group(t, "group", id[0])
	for what, call := range map[string]func(context.Context) error{
		"CreateGroup": func(ctx context.Context) error {
			_, _, err := p.Groups.CreateGroup(ctx, relay.Group{Name: "new", Creator: id[0]}, "x", nil, nil)
			return err
		},
		"AddMember": func(ctx context.Context) error {
			_, _, err := p.Groups.AddMember(ctx, "group", id[0], id[1], nil)
			return err
		},
		"Leave":    func(ctx context.Context) error { _, err := p.Groups.Leave(ctx, "group", id[0]); return err },
		"Group":    func(ctx context.Context) error { _, err := p.Groups.Group(ctx, "group"); return err },
		"GroupsOf": func(ctx context.Context) error { _, err := p.Groups.GroupsOf(ctx, id[0]); return err },
	} {
		if err := call(ended(t)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	p.expectGroup(t, "group", id[0], id[0])
	p.expectGroupsOf(t, id[0], "group")
}

func testGroupsMany(t *testing.T, nodes []People) {
	const tries = 30
	id := nodes[0].users(t, "alice", "bob", "carol")
	made, errs := make([]relay.Group, tries), make([]error, tries)
	atOnce(tries, func(i int) {
		g := relay.Group{Name: "wanted", Creator: id[i%3], Members: []int64{id[(i+1)%3]}}
		made[i], _, errs[i] = nodes[i%len(nodes)].Groups.CreateGroup(t.Context(), g, "first", []byte("created"), []byte("posted"))
	})
	got := 0
	for i, err := range errs {
		if err != nil {
			expect(t, "CreateGroup", err, relay.ErrGroupTaken)
			continue
		}
		got++
		nodes[0].expectGroup(t, "wanted", made[i].Creator, made[i].Members...)
	}
	if notices := nodes[0].pending(t); got != 1 || len(notices) != 2 {
		t.Errorf("%d groups were made, with %d notices; want 1 with 2", got, len(notices))
	}
}

// Members come and go on several nodes, while others write, and each of them is told the
// truth.
func testGroupsRestless(t *testing.T, nodes []People) {
	const rounds, restless = 15, 3
	id := nodes[0].users(t, "creator", "writer", "a", "b", "c")
	creator, writer := id[0], id[1]
	nodes[0].group(t, "group", creator, id...)
	atOnce(restless+2, func(w int) {
		p := nodes[w%len(nodes)]
		for range rounds {
			pause()
			if w >= restless {
				n := p.write(t, writer, "group", "x")
				if n.ID == "" {
					return
				}
				continue
			}
			if deleted, err := p.Groups.Leave(t.Context(), "group", id[2+w]); err != nil || deleted {
				t.Errorf("Leave: deleted %v, %v", deleted, err)
			}
			g, notice, err := p.Groups.AddMember(t.Context(), "group", creator, id[2+w], []byte("added"))
			if err != nil || !slices.Contains(g.Members, id[2+w]) || !slices.Contains(notice.To, id[2+w]) || slices.Contains(notice.To, creator) {
				t.Errorf("AddMember: %+v, %+v, %v", g, notice, err)
			}
		}
	})
	nodes[0].expectGroup(t, "group", creator, id...)
	for _, user := range id {
		nodes[0].expectGroupsOf(t, user, "group")
	}
	posts, more, err := nodes[0].Posts.GroupPage(t.Context(), creator, "group", 0, 1000)
	if err != nil || more || len(posts) != 2*rounds {
		t.Errorf("%d posts, more %v, %v; want %d", len(posts), more, err, 2*rounds)
	}
}
