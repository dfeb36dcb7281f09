package chat

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// The types of frames from servers.
const (
	TypeMessages = "serverMessages"
	TypeHistory  = "roomHistory"
	TypeError    = "error"
)

// Message is a message of a room. Its fields alias the frame that was parsed, unless
// that held escapes.
type Message struct {
	ID      []byte // its place: millis-seq
	Content []byte
	User    int64
}

// Frame is what a server sent. Parsing into it again reuses Messages.
type Frame struct {
	Type     []byte
	Room     []byte
	Messages []Message
	More     bool   // of a history: there are older ones
	Code     []byte // of an error
	Reason   []byte
}

func (f *Frame) reset() { *f = Frame{Messages: f.Messages[:0]} }

// Parse reads a frame into f. Frames as servers usually write them are scanned
// without allocating; whatever surprises the scanner goes to encoding/json, which
// decides.
func Parse(frame []byte, f *Frame) error {
	f.reset()
	s := scanner{b: frame}
	if s.frame(f) {
		return nil
	}
	f.reset()
	return parseSlowly(frame, f)
}

func parseSlowly(frame []byte, f *Frame) error {
	var all struct {
		Type    string
		Payload struct {
			RoomID          string
			Messages        []message
			HasMoreMessages bool
			Code, Message   string
		}
	}
	if err := json.Unmarshal(frame, &all); err != nil {
		return fmt.Errorf("not a frame of the chat: %w", err)
	}
	p := all.Payload
	f.Type, f.Room, f.More = []byte(all.Type), []byte(p.RoomID), p.HasMoreMessages
	f.Code, f.Reason = []byte(p.Code), []byte(p.Message)
	f.Messages = append(f.Messages, plain(p.Messages)...)
	return nil
}

// message is a message as encoding/json reads it.
type message struct {
	ID, Content string
	User        User
}

func plain(read []message) (all []Message) {
	for _, m := range read {
		all = append(all, Message{ID: []byte(m.ID), Content: []byte(m.Content), User: m.User.ID})
	}
	return all
}

// Newest returns the messages that a greeting has of a room, newest first.
func (r *Room) Newest() ([]Message, error) {
	var read []message
	if err := json.Unmarshal(r.Messages, &read); err != nil {
		return nil, fmt.Errorf("the messages of room %q: %w", r.ID, err)
	}
	return plain(read), nil
}

// ParsePlace reads the id of a message.
func ParsePlace(id []byte) (millis, seq uint64, ok bool) {
	for i, c := range id {
		if c == '-' {
			m, err := strconv.ParseUint(string(id[:i]), 10, 64)
			n, err2 := strconv.ParseUint(string(id[i+1:]), 10, 64)
			return m, n, err == nil && err2 == nil
		}
	}
	return 0, 0, false
}

// scanner reads the plain subset of JSON that servers write: strings without escapes,
// whole numbers. Its methods return false for everything else, right or wrong.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) frame(f *Frame) bool {
	ok := s.members(func(key []byte) bool {
		switch string(key) {
		case "type":
			return s.text(&f.Type)
		case "payload":
			return s.payload(f)
		}
		return s.skip()
	})
	s.space()
	return ok && s.i == len(s.b)
}

func (s *scanner) payload(f *Frame) bool {
	return s.members(func(key []byte) bool {
		switch string(key) {
		case "roomId":
			return s.text(&f.Room)
		case "messages":
			return s.messages(f)
		case "hasMoreMessages":
			return s.truth(&f.More)
		case "code":
			return s.text(&f.Code)
		case "message":
			return s.text(&f.Reason)
		}
		return s.skip()
	})
}

func (s *scanner) messages(f *Frame) bool {
	if !s.take('[') {
		return false
	}
	for first := true; !s.take(']'); first = false {
		if !first && !s.take(',') {
			return false
		}
		f.Messages = append(f.Messages, Message{})
		m := &f.Messages[len(f.Messages)-1]
		ok := s.members(func(key []byte) bool {
			switch string(key) {
			case "id":
				return s.text(&m.ID)
			case "content":
				return s.text(&m.Content)
			case "user":
				return s.user(m)
			}
			return s.skip()
		})
		if !ok {
			return false
		}
	}
	return true
}

func (s *scanner) user(m *Message) bool {
	return s.members(func(key []byte) bool {
		if string(key) == "id" {
			return s.number(&m.User)
		}
		return s.skip()
	})
}

// members reads an object and calls one for each member, when its value comes next.
func (s *scanner) members(one func(key []byte) bool) bool {
	if !s.take('{') {
		return false
	}
	var key []byte
	for first := true; !s.take('}'); first = false {
		if !first && !s.take(',') || !s.text(&key) || !s.take(':') || !one(key) {
			return false
		}
	}
	return true
}

// skip reads a value that means nothing here: a string, a number, a literal.
func (s *scanner) skip() bool {
	var (
		text   []byte
		number int64
		truth  bool
	)
	switch c := s.peek(); {
	case c == '"':
		return s.text(&text)
	case c == 'n':
		return s.literal("null")
	case c == 't' || c == 'f':
		return s.truth(&truth)
	}
	return s.number(&number)
}

func (s *scanner) truth(dst *bool) bool {
	*dst = s.peek() == 't'
	if *dst {
		return s.literal("true")
	}
	return s.literal("false")
}

func (s *scanner) literal(word string) bool {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return false
	}
	s.i += len(word)
	return true
}

func (s *scanner) number(dst *int64) bool {
	const most = 18 // digits that surely fit
	s.space()
	start, n := s.i, int64(0)
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		n = 10*n + int64(s.b[s.i]-'0')
		s.i++
	}
	digits := s.i - start
	if digits == 0 || digits > most || digits > 1 && s.b[start] == '0' {
		return false
	}
	*dst = n
	return true
}

// text reads a string without escapes.
func (s *scanner) text(dst *[]byte) bool {
	if !s.take('"') {
		return false
	}
	start := s.i
	for i, c := range s.b[start:] {
		if c == '"' {
			s.i = start + i + 1
			*dst = s.b[start : start+i : start+i]
			return true
		}
		if c == '\\' || c < ' ' {
			break
		}
	}
	return false
}

// take skips white space and the byte c, when that comes next.
func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.i++
	return true
}

// peek skips white space and returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}
