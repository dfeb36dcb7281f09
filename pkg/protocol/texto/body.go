package texto

import (
	"github.com/google/uuid"

	"parley/pkg/relay"
)

// What the body of a message between nodes holds is told by its first byte. A
// node drops what it does not know.
const (
	bodyText     = 0 // an id, then the text: a message that is not kept
	bodyKept     = 1 // the text; the message's place makes its id
	bodyTakeover = 2 // the nonce of the connection that takes the session over
)

// idLength is the length of an id or a nonce in a body.
const idLength = 16

// appendText appends the body of a text; kept tells whether the message is.
func appendText(b []byte, kept bool, text []byte) []byte {
	if kept {
		return append(append(b, bodyKept), text...)
	}
	id := newID()
	return append(append(append(b, bodyText), id[:]...), text...)
}

// textOf reads the body of a text, a quoted JSON string; false when the message is
// none, or not from a node of this fleet.
func textOf(m *relay.Message) (id uuid.UUID, text []byte, ok bool) {
	const quotes = 2
	switch b := m.Body; {
	case len(m.From) != uuidLength:
	case len(b) >= 1+idLength+quotes && b[0] == bodyText:
		return uuid.UUID(b[1 : 1+idLength]), b[1+idLength:], true
	case len(b) >= 1+quotes && b[0] == bodyKept:
		return placeID(m.ID, m.Time), b[1:], true
	}
	return id, nil, false
}

// nonceOf reads the body of a takeover.
func nonceOf(m *relay.Message) (nonce [idLength]byte, ok bool) {
	if len(m.Body) != 1+idLength || m.Body[0] != bodyTakeover {
		return nonce, false
	}
	return [idLength]byte(m.Body[1:]), true
}
