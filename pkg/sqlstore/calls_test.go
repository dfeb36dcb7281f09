package sqlstore

import (
	"context"
	"errors"
	"maps"

	"parley/pkg/relay"
)

// calls are one of each kind. They expect what use has made under the name "kept", first
// of all: the account 1 and its friend, 2. What an attempt that was said to have failed
// has done is no error.
func calls(s *Store) map[string]func(context.Context) error {
	all := callsOfPeople(s)
	maps.Copy(all, callsOfPosts(s))
	maps.Copy(all, map[string]func(context.Context) error{
		"Create": func(ctx context.Context) error {
			_, err := s.Users().Create(ctx, relay.User{Username: "x", Email: "x@example.com"}, "")
			return but(err, relay.ErrEmailTaken)
		},
		"ByEmail": func(ctx context.Context) error {
			_, _, err := s.Users().ByEmail(ctx, "kept@example.com")
			return err
		},
		"ByID": func(ctx context.Context) error { _, err := s.Users().ByID(ctx, 1); return err },
		"Taken": func(ctx context.Context) error {
			username, email, err := s.Users().Taken(ctx, "kept", "kept@example.com")
			return lost(err, username && email)
		},
		"Store": func(ctx context.Context) error {
			return s.Archive().Store(ctx, []relay.Message{{ID: relay.ID{Millis: 2}, Topic: "chat/kept"}})
		},
		"Before": func(ctx context.Context) error {
			_, _, err := s.Archive().Before(ctx, "chat/kept", relay.ID{}, 1)
			return err
		},
		"Newest": func(ctx context.Context) error { _, err := s.Archive().Newest(ctx, "chat/kept", 1); return err },
		"Has": func(ctx context.Context) error {
			has, err := s.Archive().Has(ctx, "chat/kept", relay.ID{Millis: 1})
			return lost(err, has)
		},
		"Ping": s.Ping,
	})
	return all
}

// but is an error, unless it is one that does not matter.
func but(err, except error) error {
	if errors.Is(err, except) {
		return nil
	}
	return err
}

// lost is an error, too, when what was kept is not there.
func lost(err error, there bool) error {
	if err == nil && !there {
		return errors.New("what was kept is lost")
	}
	return err
}

func callsOfPeople(s *Store) map[string]func(context.Context) error {
	name := "kept"
	return map[string]func(context.Context) error{
		"Directory.ByID": func(ctx context.Context) error { _, err := s.Directory().ByID(ctx, 2); return err },
		"ByUsername": func(ctx context.Context) error {
			_, err := s.Directory().ByUsername(ctx, "kept")
			return err
		},
		"Rename": func(ctx context.Context) error {
			_, err := s.Directory().Rename(ctx, 1, &name, nil)
			return err
		},
		"Find": func(ctx context.Context) error {
			found, _, err := s.Directory().Find(ctx, "ep", nil, 10)
			return lost(err, len(found) == 2)
		},
		"Befriend": func(ctx context.Context) error { return s.Friends().Befriend(ctx, 2, 1) },
		"Unfriend": func(ctx context.Context) error { return s.Friends().Unfriend(ctx, 2, 1) },
		"Friends": func(ctx context.Context) error {
			all, err := s.Friends().Friends(ctx, 1)
			return lost(err, len(all) == 1)
		},
		"ByIdentity": func(ctx context.Context) error {
			u, err := s.Identities().ByIdentity(ctx, "issuer", "kept")
			return lost(err, u.ID == 2)
		},
		"CreateWithIdentity": func(ctx context.Context) error {
			_, err := s.Identities().CreateWithIdentity(ctx, relay.User{Username: "y", Email: "y"}, "issuer", "y")
			return but(err, relay.ErrIdentityTaken)
		},
	}
}

func callsOfPosts(s *Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"CreateGroup": func(ctx context.Context) error {
			_, _, err := s.Groups().CreateGroup(ctx, relay.Group{Name: "x", Creator: 1}, "first", nil, nil)
			return but(err, relay.ErrGroupTaken)
		},
		"Group": func(ctx context.Context) error {
			g, err := s.Groups().Group(ctx, "kept")
			return lost(err, g.Creator == 1)
		},
		"GroupsOf": func(ctx context.Context) error {
			names, err := s.Groups().GroupsOf(ctx, 1)
			return lost(err, len(names) > 0)
		},
		"AddMember": func(ctx context.Context) error {
			_, _, err := s.Groups().AddMember(ctx, "kept", 1, 2, nil)
			return err
		},
		"Leave": func(ctx context.Context) error {
			_, err := s.Groups().Leave(ctx, "kept", 2)
			return but(err, relay.ErrNotMember)
		},
		"WriteTo": func(ctx context.Context) error {
			_, _, err := s.Posts().WriteTo(ctx, 2, 1, "x", nil)
			return err
		},
		"WriteToGroup": func(ctx context.Context) error {
			_, _, err := s.Posts().WriteToGroup(ctx, 1, "kept", "x", nil)
			return err
		},
		"Pull": func(ctx context.Context) error { _, _, err := s.Posts().Pull(ctx, 1, 2, "", 10, 10); return err },
		"Page": func(ctx context.Context) error {
			posts, _, err := s.Posts().Page(ctx, 1, 2, 0, 10)
			return lost(err, len(posts) > 0)
		},
		"GroupPage": func(ctx context.Context) error {
			posts, _, err := s.Posts().GroupPage(ctx, 1, "kept", 0, 10)
			return lost(err, len(posts) > 0)
		},
		"Pending": func(ctx context.Context) error {
			all, err := s.Outbox().Pending(ctx, 0, 10)
			return lost(err, len(all) >= 3)
		},
		"Done": func(ctx context.Context) error { return s.Outbox().Done(ctx, 1<<40) },
	}
}
