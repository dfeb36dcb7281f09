package texto

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Message is a frame from a server. Its fields alias the frame that was
// parsed, unless that held escapes; a field that the frame does not have, or
// that is null, is nil.
type Message struct {
	ClientID []byte // of the envelope
	ID       []byte
	Kind     []byte

	// Of the data, by kind.
	Session     []byte // connection: the session's client id
	Node        []byte // connection: the node's name
	Resume      []byte // connection: the token to come back with
	Recovered   Recovered
	Sender      []byte // receive
	Text        []byte // receive
	Code        []byte // error
	Description []byte // error
}

// Recovered is what a connection message says about what was missed.
type Recovered byte

// A connection message says nothing of it, that all comes, or that something
// may be missing.
const (
	RecoveredUnsaid Recovered = iota
	RecoveredAll
	RecoveredNot
)

// The kinds of messages.
const (
	KindConnection = "connection"
	KindReceive    = "receive"
	KindAck        = "ack"
	KindError      = "error"
	kindSend       = "send"

	kindRegistration = "registration"
)

// Parse reads a frame into m. Frames as servers usually write them are scanned
// without allocating; whatever surprises the scanner goes to encoding/json,
// which decides.
func Parse(frame []byte, m *Message) error {
	*m = Message{}
	s := scanner{b: frame}
	if s.envelope(m) {
		return nil
	}
	*m = Message{}
	return parseSlowly(frame, m)
}

func parseSlowly(frame []byte, m *Message) error {
	var envelope map[string]json.RawMessage
	if err := json.Unmarshal(frame, &envelope); err != nil {
		return fmt.Errorf("not a JSON object: %w", err)
	}
	if envelope == nil {
		return errors.New("not a JSON object: null")
	}
	for key, dst := range m.envelopeFields() {
		if err := unquote(envelope[key], dst); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	raw := envelope["data"]
	if raw == nil || raw[0] == 'n' {
		return nil
	}
	var data map[string]json.RawMessage
	if err := json.Unmarshal(raw, &data); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	for key, dst := range m.dataFields() {
		if err := unquote(data[key], dst); err != nil {
			return fmt.Errorf("data.%s: %w", key, err)
		}
	}
	var recovered *bool
	if raw := data["recovered"]; raw != nil {
		if err := json.Unmarshal(raw, &recovered); err != nil {
			return fmt.Errorf("data.recovered: %w", err)
		}
	}
	switch {
	case recovered == nil:
	case *recovered:
		m.Recovered = RecoveredAll
	default:
		m.Recovered = RecoveredNot
	}
	return nil
}

func (m *Message) envelopeFields() map[string]*[]byte {
	return map[string]*[]byte{"client_id": &m.ClientID, "id": &m.ID, "kind": &m.Kind}
}

func (m *Message) dataFields() map[string]*[]byte {
	return map[string]*[]byte{"client_id": &m.Session, "node": &m.Node, "resume": &m.Resume, "sender_id": &m.Sender,
		"text": &m.Text, "code": &m.Code, "description": &m.Description}
}

func unquote(raw json.RawMessage, dst *[]byte) error {
	if raw == nil {
		return nil
	}
	var text *string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	if text != nil {
		*dst = []byte(*text)
	}
	return nil
}

// scanner reads the plain subset of JSON that servers write: objects of
// strings without escapes, null, true and false, no deeper than the data. Its
// methods return false for everything else, right or wrong.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) envelope(m *Message) bool {
	for first := true; ; first = false {
		key, more, ok := s.member(first)
		if !more {
			s.space()
			return ok && s.i == len(s.b)
		}
		switch string(key) {
		case "client_id":
			ok = s.value(&m.ClientID)
		case "id":
			ok = s.value(&m.ID)
		case "kind":
			ok = s.value(&m.Kind)
		case "data":
			*m = Message{ClientID: m.ClientID, ID: m.ID, Kind: m.Kind}
			if s.peek() == '{' {
				ok = s.data(m)
			} else {
				ok = s.literal("null")
			}
		default:
			ok = s.ignored()
		}
		if !ok {
			return false
		}
	}
}

func (s *scanner) data(m *Message) bool {
	for first := true; ; first = false {
		key, more, ok := s.member(first)
		if !more {
			return ok
		}
		switch string(key) {
		case "client_id":
			ok = s.value(&m.Session)
		case "node":
			ok = s.value(&m.Node)
		case "resume":
			ok = s.value(&m.Resume)
		case "recovered":
			ok = s.recovered(&m.Recovered)
		case "sender_id":
			ok = s.value(&m.Sender)
		case "text":
			ok = s.value(&m.Text)
		case "code":
			ok = s.value(&m.Code)
		case "description":
			ok = s.value(&m.Description)
		default:
			ok = s.ignored()
		}
		if !ok {
			return false
		}
	}
}

// member moves to the value of an object's next member. Without more, ok tells
// whether the object has ended as it should.
func (s *scanner) member(first bool) (key []byte, more, ok bool) {
	switch c := s.peek(); {
	case first && c == '{':
		s.i++
		if s.peek() == '}' {
			s.i++
			return nil, false, true
		}
	case !first && c == ',':
		s.i++
	case !first && c == '}':
		s.i++
		return nil, false, true
	default:
		return nil, false, false
	}
	key, ok = s.text()
	if !ok || s.peek() != ':' {
		return nil, false, false
	}
	s.i++
	return key, true, true
}

// value reads a string or null.
func (s *scanner) value(dst *[]byte) bool {
	*dst = nil
	if s.peek() != '"' {
		return s.literal("null")
	}
	text, ok := s.text()
	*dst = text
	return ok
}

// recovered reads true, false or null.
func (s *scanner) recovered(dst *Recovered) bool {
	switch s.peek() {
	case 't':
		*dst = RecoveredAll
		return s.literal("true")
	case 'f':
		*dst = RecoveredNot
		return s.literal("false")
	}
	*dst = RecoveredUnsaid
	return s.literal("null")
}

// ignored skips the value of a field that means nothing here.
func (s *scanner) ignored() bool {
	switch s.peek() {
	case '"':
		_, ok := s.text()
		return ok
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	}
	return s.literal("null")
}

func (s *scanner) literal(word string) bool {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return false
	}
	s.i += len(word)
	return true
}

// text reads a string without escapes.
func (s *scanner) text() ([]byte, bool) {
	if s.peek() != '"' {
		return nil, false
	}
	start := s.i + 1
	for i, c := range s.b[start:] {
		if c == '"' {
			s.i = start + i + 1
			return s.b[start : start+i : start+i], true
		}
		if c == '\\' || c < ' ' {
			break
		}
	}
	return nil, false
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
