package chat

import (
	"net/url"
	"strings"

	"parley/pkg/jsonscan"
	"parley/pkg/relay"
)

type kind uint8

const (
	kindMessages kind = iota + 1
	kindHistory
	kindResume
	kindTyping
)

// maxRoomID bounds the id of a room, in bytes; what is longer is of no room.
const maxRoomID = 64

// request is a message from a client. Its slices are parts of the frame.
type request struct {
	kind     kind
	room     string
	quoted   []byte            // the room as it was written, for an error; nil: there was none
	contents [][]byte          // of clientMessages: JSON strings as they were written, with their quotes
	tooMany  bool              // there were more
	first    string            // of requestRoomHistory
	since    map[string]string // of resume: the last message of each room
}

// decode reads a frame. Unknown members are skipped; of several with one name the
// last one counts.
func decode(frame []byte) (r request, p *problem) {
	if !jsonscan.Valid(frame) {
		return r, errRequest
	}
	s := jsonscan.New(frame)
	var typ string
	var load payload
	err := s.Members(func(key []byte) error {
		switch string(key) {
		case "type":
			v, err := s.Value(1)
			if typ = ""; err == nil && v[0] == '"' {
				typ = string(jsonscan.Unquote(v))
			}
			return err
		case "payload":
			return load.decode(&s)
		}
		_, err := s.Value(1)
		return err
	})
	if err != nil || !s.End() || !load.object {
		return r, errRequest
	}
	r.room, r.quoted = load.room, load.quoted
	ok := load.quoted != nil
	switch typ {
	case "clientMessages":
		r.kind, r.contents, r.tooMany = kindMessages, load.contents, load.tooMany
		ok = ok && load.hasMessages
	case "requestRoomHistory":
		r.kind, r.first = kindHistory, load.first
		ok = ok && load.hasFirst
	case "resume":
		r.kind, r.since = kindResume, load.since
		ok = load.since != nil
	case "typing":
		r.kind = kindTyping
	default:
		ok = false
	}
	if !ok {
		return r, errRequest
	}
	return r, nil
}

// payload is the members of a payload that some kind of request has.
type payload struct {
	object      bool
	room        string
	quoted      []byte
	contents    [][]byte
	tooMany     bool
	hasMessages bool
	first       string
	hasFirst    bool
	since       map[string]string
}

func (p *payload) decode(s *jsonscan.Scanner) error {
	*p = payload{}
	if s.Peek() != '{' {
		_, err := s.Value(1)
		return err
	}
	p.object = true
	return s.Members(func(key []byte) error {
		switch string(key) {
		case "messages":
			return p.decodeMessages(s)
		case "rooms":
			return p.decodeRooms(s)
		}
		v, err := s.Value(2)
		if err != nil {
			return err
		}
		switch string(key) {
		case "roomId":
			if p.room, p.quoted = "", nil; v[0] == '"' {
				id := jsonscan.Unquote(v)
				if p.quoted = v; len(id) > maxRoomID {
					id, p.quoted = nil, []byte(`""`) // not sent back
				}
				p.room = string(id)
			}
		case "firstMessageId":
			if p.hasFirst = v[0] == '"'; p.hasFirst {
				p.first = string(jsonscan.Unquote(v))
			}
		}
		return nil
	})
}

// decodeMessages reads an array of objects with a content each.
func (p *payload) decodeMessages(s *jsonscan.Scanner) error {
	p.contents, p.tooMany = nil, false
	if p.hasMessages = s.Peek() == '['; !p.hasMessages {
		_, err := s.Value(2)
		return err
	}
	return s.Elements(func() error {
		var content []byte
		if s.Peek() != '{' {
			p.hasMessages = false
			_, err := s.Value(3)
			return err
		}
		err := s.Members(func(key []byte) error {
			v, err := s.Value(4)
			if err == nil && string(key) == "content" {
				if content = nil; v[0] == '"' {
					content = v
				}
			}
			return err
		})
		switch {
		case err != nil:
			return err
		case content == nil:
			p.hasMessages = false
		case len(p.contents) == maxMessages:
			p.tooMany = true
		default:
			p.contents = append(p.contents, content)
		}
		return nil
	})
}

// decodeRooms reads an object of message ids by room.
func (p *payload) decodeRooms(s *jsonscan.Scanner) error {
	p.since = nil
	if s.Peek() != '{' {
		_, err := s.Value(2)
		return err
	}
	since := map[string]string{}
	ok := true
	err := s.Members(func(key []byte) error {
		room := string(key)
		v, err := s.Value(3)
		if err != nil {
			return err
		}
		if v[0] != '"' {
			ok = false
		} else if len(room) <= maxRoomID {
			since[room] = string(jsonscan.Unquote(v))
		}
		return nil
	})
	if ok {
		p.since = since
	}
	return err
}

// parseSince reads the parameter since: <room>:<lastMessageId>, separated by commas,
// percent-encoded once more if the client likes. What is no such thing is left out.
func parseSince(s string) map[string]string {
	if s == "" {
		return nil
	}
	since := map[string]string{}
	for part := range strings.SplitSeq(s, ",") {
		if room, id, ok := strings.Cut(part, ":"); ok && len(room) <= maxRoomID {
			if plain, err := url.PathUnescape(room); err == nil {
				room = plain
			}
			since[room] = id
		}
	}
	return since
}

// placeOf reads a message id; the zero ID is the place before all messages.
func placeOf(s string) (id relay.ID, ok bool) {
	id, err := relay.ParseID(s)
	return id, err == nil
}
