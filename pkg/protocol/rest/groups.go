package rest

import (
	"crypto/rand"
	"encoding/base32"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"parley/pkg/relay"
)

// groupJSON is a group as its members see it.
type groupJSON struct {
	ID      string  `json:"groupID"`
	Members []int64 `json:"members"`
}

func groupOf(g relay.Group) groupJSON { return groupJSON{g.Name, append([]int64{}, g.Members...)} }

// groupRef is a group in a list.
type groupRef struct {
	ID string `json:"groupID"`
}

func refs(names []string) []groupRef {
	all := make([]groupRef, len(names)) // never null
	for i, name := range names {
		all[i].ID = name
	}
	return all
}

// madeUpBytes is how much of a made-up name is random.
const madeUpBytes = 10

// madeUp is a name for a group without one: nobody else is given it.
func madeUp() string {
	b := make([]byte, madeUpBytes)
	_, _ = rand.Read(b) // never fails
	return "group-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

func (s *Server) groups(_ http.ResponseWriter, c *call) (*answer, error) {
	ctx, cancel := c.bounded()
	defer cancel()
	names, err := s.deps.Groups.GroupsOf(ctx, c.id)
	if err != nil {
		return nil, err
	}
	return cached(struct {
		Groups []groupRef `json:"groups"`
	}{refs(names)}), nil
}

func (s *Server) putGroup(w http.ResponseWriter, c *call) (*answer, error) {
	var body struct {
		Members *[]int64 `json:"members"`
	}
	if err := read(w, c, maxMembersBody, &body); err != nil {
		return nil, err
	}
	return s.newGroup(c, c.names[0], *body.Members, nil)
}

func (s *Server) createGroup(w http.ResponseWriter, c *call) (*answer, error) {
	var body struct {
		Members *[]int64 `json:"members"`
		Name    *string  `json:"name,omitempty"`
		Message *string  `json:"message,omitempty"`
	}
	if err := read(w, c, maxMembersBody+s.bodyWithText(), &body); err != nil {
		return nil, err
	}
	name := ""
	if body.Name == nil {
		name = madeUp()
	} else {
		name = *body.Name
	}
	return s.newGroup(c, name, *body.Members, body.Message)
}

// newGroup makes a group of the one who asks and others.
func (s *Server) newGroup(c *call, name string, members []int64, first *string) (*answer, error) {
	if err := checkGroupName(name); err != nil {
		return nil, err
	}
	if len(members) > relay.MaxGroupMembers {
		return nil, errTooMany
	}
	for _, id := range members {
		if err := checkID(id, "members"); err != nil {
			return nil, err
		}
	}
	text := ""
	if first != nil {
		if text = *first; text != "" {
			if err := s.checkText(text); err != nil {
				return nil, err
			}
		}
	}
	ctx, cancel := c.bounded()
	defer cancel()
	g, notices, err := s.deps.Groups.CreateGroup(ctx, relay.Group{Name: name, Creator: c.id, Members: members}, text,
		noticeOfGroup(groupCreated, name), noticeOfGroup(newGroupMessage, name))
	if err != nil {
		return nil, err
	}
	if text != "" {
		s.metrics.messages.WithLabelValues("group").Inc()
	}
	s.tellFor(c, notices...)
	return made(groupOf(g), "/Groups/"+url.PathEscape(g.Name)), nil
}

func (s *Server) group(_ http.ResponseWriter, c *call) (*answer, error) {
	ctx, cancel := c.bounded()
	defer cancel()
	g, err := s.deps.Groups.Group(ctx, c.names[0])
	if err != nil {
		return nil, err
	}
	if !slices.Contains(g.Members, c.id) {
		return nil, errNotMember
	}
	return cached(groupOf(g)), nil
}

func (s *Server) addMember(w http.ResponseWriter, c *call) (*answer, error) {
	var body struct {
		UserID *int64 `json:"userId"`
	}
	if err := read(w, c, maxBody, &body); err != nil {
		return nil, err
	}
	if err := checkID(*body.UserID, "userId"); err != nil {
		return nil, err
	}
	ctx, cancel := c.bounded()
	defer cancel()
	g, notice, err := s.deps.Groups.AddMember(ctx, c.names[0], c.id, *body.UserID, noticeOfGroup(groupCreated, c.names[0]))
	if err != nil {
		return nil, err
	}
	s.tellFor(c, notice)
	return ok(groupOf(g)), nil
}

func (s *Server) leaveGroup(_ http.ResponseWriter, c *call) (*answer, error) {
	ctx, cancel := c.bounded()
	defer cancel()
	_, err := s.deps.Groups.Leave(ctx, c.names[0], c.id)
	return done, err
}
