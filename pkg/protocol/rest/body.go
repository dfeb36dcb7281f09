package rest

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"parley/pkg/relay"
	"parley/pkg/web"
)

const (
	// maxBody bounds the body of a request, in bytes; maxMembersBody one that lists the
	// members of a group: each is a number of at most 19 digits.
	maxBody        = 16 << 10
	maxMembersBody = maxBody + 24*relay.MaxGroupMembers
	// maxText bounds the text of a message whatever is configured: a page of them has
	// to be answered in one piece.
	maxText = 1 << 20
	// maxGroupName is the longest name of a group, in Unicode code points.
	maxGroupName = 100
	// maxIndex bounds the number of a page.
	maxIndex = 1_000_000_000
	// maxSearch is the longest text to search for, in Unicode code points: as long as a
	// username may be.
	maxSearch = 100
	// maxPlace bounds the text of a place in a search.
	maxPlace = 4 << 10
)

// text is the longest text of a message, in bytes.
func (s *Server) longestText() int {
	if n := s.cfg.MaxMessageBytes; n > 0 && n < maxText {
		return n
	}
	return maxText
}

// bodyWithText is how long a body with a message may be: with every byte escaped.
func (s *Server) bodyWithText() int64 { return maxBody + 6*int64(s.longestText()) }

// checkText tells what is wrong with the text of a message.
func (s *Server) checkText(text string) error {
	switch {
	case text == "":
		return bad(`"message" is empty`)
	case len(text) > s.longestText():
		p := *errTooLong
		p.Message = `"message" is longer than ` + strconv.Itoa(s.longestText()) + " bytes (--max-message-bytes)"
		return &p
	}
	return nil
}

// checkGroupName tells what is wrong with the name of a group.
func checkGroupName(name string) error {
	switch {
	case !utf8.ValidString(name):
		return bad("the group's name is not valid UTF-8")
	case name == "" || utf8.RuneCountInString(name) > maxGroupName:
		return bad("the group's name is not of 1 to %d characters", maxGroupName)
	case name == "." || name == ".." || strings.ContainsRune(name, '/') || strings.ContainsFunc(name, unicode.IsControl):
		return bad(`a group's name has no control characters and no "/", and is not "." or ".."`)
	}
	return nil
}

// read reads the body of a request; see web.ReadJSON.
func read(w http.ResponseWriter, c *call, limit int64, v any) error {
	return web.ReadJSON(w, c.Request, limit, v)
}

// parseID reads the id of a user.
func parseID(s string) (int64, error) {
	id, err := strconv.ParseInt(s, 10, 64)
	if err != nil || id < 1 || s[0] == '+' {
		return 0, bad("the id of a user is a positive whole number")
	}
	return id, nil
}

// checkID is parseID of a number.
func checkID(id int64, field string) error {
	if id < 1 {
		return bad("%q is not the id of a user, a positive whole number", field)
	}
	return nil
}

// index reads which page is wanted.
func index(q url.Values) (int, error) {
	text := q.Get("Index")
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > maxIndex {
		return 0, bad("Index is a whole number from 0 to %d", maxIndex)
	}
	return int(n), nil
}
