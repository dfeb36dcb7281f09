package rest

import (
	"context"
	"io"
	"net/http"
	"strings"

	"parley/pkg/relay"
	"parley/pkg/web"
)

const (
	// pageSize is how many messages a page of a conversation has, as the protocol has it.
	pageSize = 20
	// maxPulled and maxPulledBytes bound what one pull takes of a conversation.
	maxPulled      = 10_000
	maxPulledBytes = 1 << 20
)

type messageJSON struct {
	ID        string `json:"id"`
	SenderID  int64  `json:"senderId"`
	Message   string `json:"message"`
	Timestamp int64  `json:"timestamp"` // ms
}

func messages(posts []relay.Post) []messageJSON {
	all := make([]messageJSON, len(posts)) // never null
	for i, p := range posts {
		all[i] = messageJSON{p.ID, p.Sender, p.Text, p.Time.UnixMilli()}
	}
	return all
}

// pageJSON is a page of a conversation.
type pageJSON struct {
	Messages []messageJSON `json:"messages"`
	HasMore  bool          `json:"hasMore"`
}

// sentJSON is what a sender is told.
type sentJSON struct {
	ID        string `json:"id"`
	Timestamp int64  `json:"timestamp"`
}

func sent(p relay.Post) *answer {
	return &answer{status: http.StatusCreated, body: sentJSON{p.ID, p.Time.UnixMilli()}}
}

func (s *Server) writeTo(w http.ResponseWriter, c *call) (*answer, error) {
	receiver, err := c.subject()
	if err != nil {
		return nil, err
	}
	var body struct {
		Name    *string `json:"name"`
		Message *string `json:"message"`
	}
	if err := read(w, c, s.bodyWithText(), &body); err != nil {
		return nil, err
	}
	if err := s.checkText(*body.Message); err != nil {
		return nil, err
	}
	ctx, cancel := c.bounded()
	defer cancel()
	me, err := s.me(ctx, c)
	switch {
	case err != nil:
		return nil, err
	case *body.Name != me.Username:
		return nil, forbidden(`"name" is not the username of the one who writes`)
	case receiver == c.id:
		return nil, bad("nobody writes to himself")
	}
	post, notice, err := s.deps.Posts.WriteTo(ctx, c.id, receiver, *body.Message, noticeOfPrivate(me.Username))
	if err != nil {
		return nil, err
	}
	s.metrics.messages.WithLabelValues("private").Inc()
	s.tellFor(c, notice)
	return sent(post), nil
}

// partner is the other one of a conversation: the query's sender, or the body's.
func (s *Server) partner(ctx context.Context, c *call) (int64, error) {
	if err := s.self(ctx, c); err != nil {
		return 0, err
	}
	id, err := sender(c)
	switch {
	case err != nil:
		return 0, err
	case id == c.id:
		return 0, bad("nobody has a conversation with himself")
	}
	_, err = s.deps.Directory.ByID(ctx, id)
	return id, err
}

// sender reads who is meant.
func sender(c *call) (int64, error) {
	if c.query.Has("sender") {
		return parseID(c.query.Get("sender"))
	}
	text, err := io.ReadAll(io.LimitReader(c.Body, maxBody+1))
	switch {
	case err != nil:
		return 0, web.ErrCutOff
	case len(text) > maxBody:
		return 0, errTooLong
	case strings.TrimSpace(string(text)) == "":
		return 0, bad(`whose conversation? ?sender=id, or {"sender": id} as the body`)
	}
	var body struct {
		Sender *int64 `json:"sender"`
	}
	if err := web.ParseJSON(text, &body); err != nil {
		return 0, err
	}
	return *body.Sender, checkID(*body.Sender, "sender")
}

func (s *Server) pull(_ http.ResponseWriter, c *call) (*answer, error) {
	ctx, cancel := c.bounded()
	defer cancel()
	other, err := s.partner(ctx, c)
	if err != nil {
		return nil, err
	}
	key := c.Header.Get("Idempotency-Key")
	if len(key) > relay.MaxPullKey {
		return nil, bad("Idempotency-Key is longer than %d bytes", relay.MaxPullKey)
	}
	posts, more, err := s.deps.Posts.Pull(ctx, c.id, other, key, maxPulled, maxPulledBytes)
	if err != nil {
		return nil, err
	}
	return ok(struct {
		Messages []messageJSON `json:"messages"`
		HasMore  bool          `json:"hasMore,omitempty"`
	}{messages(posts), more}), nil
}

func (s *Server) page(_ http.ResponseWriter, c *call) (*answer, error) {
	n, err := index(c.query)
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.bounded()
	defer cancel()
	other, err := s.partner(ctx, c)
	if err != nil {
		return nil, err
	}
	posts, more, err := s.deps.Posts.Page(ctx, c.id, other, n, pageSize)
	if err != nil {
		return nil, err
	}
	return cached(pageJSON{messages(posts), more}), nil
}

// byMember has a body name the one who asks.
func byMember(c *call, id int64) error {
	if err := checkID(id, "userId"); err != nil {
		return err
	}
	if id != c.id {
		return forbidden(`"userId" is not the one who writes`)
	}
	return nil
}

func (s *Server) writeToGroup(w http.ResponseWriter, c *call) (*answer, error) {
	var body struct {
		UserID  *int64  `json:"userId"`
		Message *string `json:"message"`
	}
	if err := read(w, c, s.bodyWithText(), &body); err != nil {
		return nil, err
	}
	if err := byMember(c, *body.UserID); err != nil {
		return nil, err
	}
	if err := s.checkText(*body.Message); err != nil {
		return nil, err
	}
	ctx, cancel := c.bounded()
	defer cancel()
	group := c.names[0]
	post, notice, err := s.deps.Posts.WriteToGroup(ctx, c.id, group, *body.Message, noticeOfGroup(newGroupMessage, group))
	if err != nil {
		return nil, err
	}
	s.metrics.messages.WithLabelValues("group").Inc()
	s.tellFor(c, notice)
	return sent(post), nil
}

func (s *Server) groupPage(_ http.ResponseWriter, c *call) (*answer, error) {
	n := 0
	if c.query.Has("Index") {
		var err error
		if n, err = index(c.query); err != nil {
			return nil, err
		}
	}
	ctx, cancel := c.bounded()
	defer cancel()
	posts, more, err := s.deps.Posts.GroupPage(ctx, c.id, c.names[0], n, pageSize)
	if err != nil {
		return nil, err
	}
	return cached(pageJSON{messages(posts), more}), nil
}
