package texto

import (
	"github.com/google/uuid"

	"parley/pkg/jsonscan"
)

// Error codes of the wire.
const (
	codeSyntax = "ESYNTAX"
	codeKind   = "EKIND"
	codeInval  = "EINVAL"
	codeClient = "ECID"
	codeBroker = "EBROKER"
	codeRate   = "ERATE"
	codeTooBig = "ETOOBIG"
	codeResume = "ERESUME"
)

// problem is why a request failed, as the client is told.
type problem struct{ code, description string }

var (
	notJSON      = &problem{codeSyntax, "the message is not JSON in UTF-8"}
	notMessage   = &problem{codeSyntax, "the message must be an object with client_id, id (UUIDs), kind (a string) and data"}
	unknownKind  = &problem{codeKind, "the kind must be registration, send or ack"}
	badSend      = &problem{codeInval, "send needs data with receiver_id (a UUID) and text (a string)"}
	badRegister  = &problem{codeInval, "registration takes no data"}
	wrongClient  = &problem{codeClient, "the client_id is not the one of this session"}
	tooFast      = &problem{codeRate, "too many messages: slow down"}
	tooBig       = &problem{codeTooBig, "the text is too long"}
	notAccepted  = &problem{codeBroker, "the message could not be passed on: try again"}
	badToken     = &problem{codeResume, "the token is not valid or too old: this is a new session"}
	notConnected = &problem{codeBroker, "the relay cannot serve you right now: try again"}
)

type kind uint8

const (
	kindUnknown kind = iota
	kindRegistration
	kindSend
	kindAck
	kindError
)

// request is a message from a client. Its slices are parts of the frame.
type request struct {
	clientID uuid.UUID // zero when absent or null
	id       uuid.UUID
	hasID    bool
	kind     kind
	receiver uuid.UUID // of a send
	text     []byte    // of a send: the JSON string as it was written, with its quotes
}

// decode reads a frame. On a problem the request's id is set as far as the
// answer is to bear it.
func decode(frame []byte) (r request, p *problem) {
	if !jsonscan.Valid(frame) {
		return request{}, notJSON
	}
	s := jsonscan.New(frame)
	if s.Peek() != '{' {
		if _, err := s.Value(0); err != nil || !s.End() {
			return request{}, notJSON
		}
		return request{}, notMessage
	}
	var kindName []byte
	var data payload
	fits := true // the fields have the types of the schema
	err := s.Members(func(key []byte) error {
		if string(key) == "data" {
			return data.decode(&s)
		}
		v, err := s.Value(1)
		if err != nil {
			return err
		}
		switch string(key) {
		case "client_id":
			r.clientID = uuid.UUID{}
			ok := string(v) == "null" || parseID(v, &r.clientID)
			fits = fits && ok
		case "id":
			r.hasID = parseID(v, &r.id)
		case "kind":
			if v[0] != '"' {
				fits = false
			} else {
				kindName = jsonscan.Unquote(v)
			}
		}
		return nil
	})
	if err != nil || !s.End() {
		return request{}, notJSON
	}
	if !r.hasID || !fits || kindName == nil {
		return r, notMessage
	}
	switch string(kindName) {
	case "send":
		r.kind = kindSend
		if !data.hasReceiver || data.text == nil {
			return r, badSend
		}
		r.receiver, r.text = data.receiver, data.text
	case "ack":
		r.kind = kindAck
	case "error":
		r.kind = kindError
	case "registration":
		r.kind = kindRegistration
		if data.present {
			return r, badRegister
		}
	default:
		return r, unknownKind
	}
	return r, nil
}

// payload is the data member, of which only what a send needs is kept.
type payload struct {
	present     bool // and not null
	receiver    uuid.UUID
	hasReceiver bool
	text        []byte // with its quotes; nil when there is none
}

// decode walks over the value of data.
func (p *payload) decode(s *jsonscan.Scanner) error {
	*p = payload{present: true}
	if s.Peek() != '{' {
		v, err := s.Value(1)
		p.present = string(v) != "null"
		return err
	}
	return s.Members(func(key []byte) error {
		v, err := s.Value(2)
		if err != nil {
			return err
		}
		switch string(key) {
		case "receiver_id":
			p.hasReceiver = parseID(v, &p.receiver)
		case "text":
			if p.text = nil; v[0] == '"' {
				p.text = v
			}
		}
		return nil
	})
}

// uuidLength is the length of the only form of a UUID that the wire knows.
const uuidLength = 36

// parseID reads a JSON string that holds a UUID, in either case.
func parseID(quoted []byte, id *uuid.UUID) bool {
	if quoted[0] != '"' {
		return false
	}
	b := quoted[1 : len(quoted)-1]
	if len(b) != uuidLength {
		if b = jsonscan.Unquote(quoted); len(b) != uuidLength {
			return false
		}
	}
	v, err := uuid.ParseBytes(b)
	if err != nil {
		return false
	}
	*id = v
	return true
}
