package rest

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"parley/pkg/account"
	"parley/pkg/relay"
)

// userJSON is a user as others see one.
type userJSON struct {
	ID       int64  `json:"id"`
	Username string `json:"username"`
}

// selfJSON is a user as he sees himself.
type selfJSON struct {
	ID       int64  `json:"id"`
	Username string `json:"username"`
	Email    string `json:"email"`
}

// shown is a user as the one who asks may see him.
func (c *call) shown(u relay.User) any {
	if u.ID == c.id {
		return selfJSON{u.ID, u.Username, u.Email}
	}
	return userJSON{u.ID, u.Username}
}

func others(us []relay.User) []userJSON {
	all := make([]userJSON, len(us)) // never null
	for i, u := range us {
		all[i] = userJSON{u.ID, u.Username}
	}
	return all
}

func locationOf(u relay.User) string { return "/Users/" + strconv.FormatInt(u.ID, 10) }

// subject is the id in the path, "me" for the one who asks.
func (c *call) subject() (int64, error) {
	if c.names[0] == "me" {
		return c.id, nil
	}
	return parseID(c.names[0])
}

// self has the id in the path be that of the one who asks: 404 if it is nobody's, 403 if
// it is another one's.
func (s *Server) self(ctx context.Context, c *call) error {
	id, err := c.subject()
	if err != nil || id == c.id {
		return err
	}
	if _, err := s.deps.Directory.ByID(ctx, id); err != nil {
		return err
	}
	return errOneself
}

// me is the one who asks, as he is now.
func (s *Server) me(ctx context.Context, c *call) (relay.User, error) {
	u, err := s.deps.Directory.ByID(ctx, c.id)
	if errors.Is(err, relay.ErrNoUser) {
		return u, errors.Join(errUnauthorized, err)
	}
	return u, err
}

func (s *Server) signUp(w http.ResponseWriter, c *call) (*answer, error) {
	var body struct {
		Username *string `json:"username"`
		Email    *string `json:"email"`
		Password *string `json:"password"`
	}
	if err := read(w, c, maxBody, &body); err != nil {
		return nil, err
	}
	u, err := s.deps.Accounts.Create(c.Context(), *body.Username, *body.Email, *body.Password)
	if err != nil {
		return nil, err
	}
	return made(selfJSON{u.ID, u.Username, u.Email}, locationOf(u)), nil
}

func (s *Server) userByName(_ http.ResponseWriter, c *call) (*answer, error) {
	if !c.query.Has("Name") {
		return nil, bad("which user? /Users?Name=username; /Search finds more")
	}
	ctx, cancel := c.bounded()
	defer cancel()
	u, err := s.deps.Directory.ByUsername(ctx, c.query.Get("Name"))
	if err != nil {
		return nil, err
	}
	return cached(c.shown(u)), nil
}

func (s *Server) user(_ http.ResponseWriter, c *call) (*answer, error) {
	id, err := c.subject()
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.bounded()
	defer cancel()
	u, err := s.deps.Directory.ByID(ctx, id)
	if err != nil {
		return nil, err
	}
	return cached(c.shown(u)), nil
}

func (s *Server) rename(w http.ResponseWriter, c *call) (*answer, error) {
	ctx, cancel := c.bounded()
	defer cancel()
	if err := s.self(ctx, c); err != nil {
		return nil, err
	}
	var body struct {
		Username *string `json:"username,omitempty"`
		Email    *string `json:"email,omitempty"`
	}
	if err := read(w, c, maxBody, &body); err != nil {
		return nil, err
	}
	if body.Username != nil {
		if err := account.CheckUsername(*body.Username); err != nil {
			return nil, err
		}
	}
	if body.Email != nil {
		if err := account.CheckEmail(*body.Email); err != nil {
			return nil, err
		}
	}
	u, err := s.deps.Directory.Rename(ctx, c.id, body.Username, body.Email)
	if err != nil {
		return nil, err
	}
	return ok(c.shown(u)), nil
}

func (s *Server) friends(_ http.ResponseWriter, c *call) (*answer, error) {
	ctx, cancel := c.bounded()
	defer cancel()
	if err := s.self(ctx, c); err != nil {
		return nil, err
	}
	all, err := s.deps.Friends.Friends(ctx, c.id)
	if err != nil {
		return nil, err
	}
	return cached(struct {
		Friends []userJSON `json:"friends"`
	}{others(all)}), nil
}

// friend is the user whose name stands at the end of the path.
func (s *Server) friend(ctx context.Context, c *call) (relay.User, error) {
	if err := s.self(ctx, c); err != nil {
		return relay.User{}, err
	}
	u, err := s.deps.Directory.ByUsername(ctx, c.names[1])
	if err == nil && u.ID == c.id {
		err = bad("nobody is on his own list of friends")
	}
	return u, err
}

func (s *Server) befriend(_ http.ResponseWriter, c *call) (*answer, error) {
	ctx, cancel := c.bounded()
	defer cancel()
	u, err := s.friend(ctx, c)
	if err == nil {
		err = s.deps.Friends.Befriend(ctx, c.id, u.ID)
	}
	return done, err
}

func (s *Server) unfriend(_ http.ResponseWriter, c *call) (*answer, error) {
	ctx, cancel := c.bounded()
	defer cancel()
	u, err := s.friend(ctx, c)
	if err == nil {
		err = s.deps.Friends.Unfriend(ctx, c.id, u.ID)
	}
	return done, err
}
