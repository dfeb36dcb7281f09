package rest

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"parley/pkg/relay"
)

// found is how many users and groups a search shows at once, as the protocol has it.
const found = 20

// Types that a search may be for.
const (
	typeUser  = "User"
	typeGroup = "Group"
)

// searchJSON is what was found.
type searchJSON struct {
	Users  []userJSON `json:"users"`
	Groups []groupRef `json:"groups"`
	Next   string     `json:"next,omitempty"` // for ?after=
}

func (s *Server) search(_ http.ResponseWriter, c *call) (*answer, error) {
	text, kind := c.query.Get("Name"), c.query.Get("Type")
	switch {
	case text == "" || len([]rune(text)) > maxSearch:
		return nil, bad("Name is of 1 to %d characters", maxSearch)
	case c.query.Has("Type") && kind != typeUser && kind != typeGroup:
		return nil, bad("Type is %s or %s", typeUser, typeGroup)
	}
	var from place
	if c.query.Has("after") {
		var err error
		if from, err = parsePlace(c.query.Get("after")); err != nil {
			return nil, err
		}
	}
	// A name may repeat parts of itself, for which the index is asked once for each length.
	s.pace.charge(paceOfUser(c.id), len(text)/searchedAtCost, time.Now())
	ctx, cancel := c.bounded()
	defer cancel()
	out, next := searchJSON{Users: []userJSON{}, Groups: []groupRef{}}, place{UsersDone: true, GroupsDone: true}
	if kind != typeGroup && !from.UsersDone {
		users, end, err := s.deps.Directory.Find(ctx, text, from.Users, found)
		if errors.Is(err, relay.ErrBadPlace) {
			return nil, errPlace
		}
		if err != nil {
			return nil, err
		}
		out.Users, next.Users, next.UsersDone = others(users), end, end == nil
	}
	if kind != typeUser && !from.GroupsDone {
		names, err := s.deps.Groups.GroupsOf(ctx, c.id)
		if err != nil {
			return nil, err
		}
		matching := matchingGroups(names, text, from.Group)
		next.GroupsDone = len(matching) <= found
		if !next.GroupsDone {
			matching = matching[:found]
			next.Group = &matching[found-1]
		}
		out.Groups = refs(matching)
	}
	if !next.UsersDone || !next.GroupsDone {
		out.Next = next.String()
	}
	return cached(out), nil
}

// matchingGroups are those of the names that have a text in them, without regard to case,
// behind a place: first those that begin with it, each kind in the order of names.
func matchingGroups(names []string, text string, after *string) []string {
	text = strings.ToLower(text)
	type match struct {
		name, folded string
		rank         int
	}
	rank := func(name string) (m match, ok bool) {
		m = match{name: name, folded: strings.ToLower(name)}
		at := strings.Index(m.folded, text)
		m.rank = min(at, 1)
		return m, at >= 0
	}
	compare := func(a, b match) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.folded, b.folded), cmp.Compare(a.name, b.name))
	}
	var begin match
	if after != nil {
		begin, _ = rank(*after)
	}
	var all []match
	for _, name := range names {
		if m, ok := rank(name); ok && (after == nil || compare(m, begin) > 0) {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, compare)
	sorted := make([]string, len(all))
	for i, m := range all {
		sorted[i] = m.name
	}
	return sorted
}

// place is where a page of a search has ended, of users and of groups.
type place struct {
	Users      []byte  `json:"u,omitempty"` // see relay.Directory
	UsersDone  bool    `json:"v,omitempty"`
	Group      *string `json:"g,omitempty"` // the last one that was shown
	GroupsDone bool    `json:"h,omitempty"`
}

var errPlace = bad("after is not what a search has answered as next")

func (p place) String() string { return base64.RawURLEncoding.EncodeToString(encode(p)) }

// parsePlace reads what String writes.
func parsePlace(s string) (p place, err error) {
	if len(s) > maxPlace {
		return p, errPlace
	}
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || json.Unmarshal(text, &p) != nil {
		return p, errPlace
	}
	return p, nil
}
