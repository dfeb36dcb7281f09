package chat

import (
	"encoding/json"
	"strconv"

	"parley/pkg/conn"
	"parley/pkg/relay"
)

// A message's body between nodes, in the journal and in the archive is one byte that
// tells its kind, and what clients see of it between its id and its time:
// {"content":...,"user":{...}}.
const (
	bodyMessage = 'm'
	bodyPart    = 'M' // the same; the next message came in the same frame
	bodyTyping  = 't' // not kept: the nonce of the connection, and the room's id
)

const messageHead = `{"id":"`

// quote returns a JSON string. What is no UTF-8 becomes U+FFFD.
func quote(s string) []byte {
	b, _ := json.Marshal(s) // a string never fails
	return b
}

// appendUser appends a User; name is quoted.
func appendUser(b []byte, id int64, name []byte) []byte {
	b = strconv.AppendInt(append(b, `{"id":`...), id, 10)
	b = append(append(b, `,"username":`...), name...)
	return append(b, '}')
}

// appendBody appends a message's body; content is a quoted JSON string, user JSON.
func appendBody(b []byte, last bool, content, user []byte) []byte {
	kind := byte(bodyPart)
	if last {
		kind = bodyMessage
	}
	b = append(append(append(b, kind), `{"content":`...), content...)
	b = append(append(b, `,"user":`...), user...)
	return append(b, '}')
}

// entryOf is a message as clients see it; more tells that the next one belongs to it.
// False for a body that this node does not know.
func entryOf(m *relay.Message) (e entry, more, ok bool) {
	if len(m.Body) < 3 || m.Body[0] != bodyMessage && m.Body[0] != bodyPart || m.Body[1] != '{' {
		return e, false, false
	}
	fields := m.Body[2 : len(m.Body)-1]
	b := make([]byte, 0, len(messageHead)+len(fields)+80)
	b = append(b, messageHead...)
	b = strconv.AppendUint(b, m.ID.Millis, 10)
	b = strconv.AppendUint(append(b, '-'), m.ID.Seq, 10)
	b = append(append(b, `",`...), fields...)
	b = strconv.AppendUint(append(b, `,"timestamp":`...), m.ID.Millis, 10)
	return entry{m.ID, append(b, '}')}, m.Body[0] == bodyPart, true
}

// appendMessages appends the frame of a serverMessages.
func appendMessages(frame []byte, r *room, entries []entry) []byte {
	size := len(r.quoted) + 80
	for i := range entries {
		size += len(entries[i].text) + 1
	}
	b := make([]byte, 0, size)
	b = append(append(b, `{"type":"serverMessages","payload":{"roomId":`...), r.quoted...)
	b = append(b, `,"messages":[`...)
	for i := range entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, entries[i].text...)
	}
	return conn.AppendFrame(frame, conn.OpText, append(b, `]}}`...))
}

// appendPage appends the frame of a roomHistory; texts are messages, newest first,
// with commas between them. c is nil in the answer to requestRoomHistory.
func appendPage(frame []byte, r *room, texts []byte, more bool, c *catchUpState) []byte {
	b := make([]byte, 0, len(texts)+len(r.quoted)+120)
	b = append(append(b, `{"type":"roomHistory","payload":{"roomId":`...), r.quoted...)
	b = append(append(b, `,"messages":[`...), texts...)
	b = append(b, `],"hasMoreMessages":`...)
	b = strconv.AppendBool(b, more)
	b = appendCatchUp(b, c)
	return conn.AppendFrame(frame, conn.OpText, append(b, `}}`...))
}

// appendCatchUp appends what a client is told that comes back.
func appendCatchUp(b []byte, c *catchUpState) []byte {
	if c == nil {
		return b
	}
	b = strconv.AppendBool(append(b, `,"recovered":`...), c.recovered)
	return strconv.AppendBool(append(b, `,"complete":`...), c.reaches)
}

// appendTexts appends messages, with commas between them, up to historyBytes but one at
// least; cut tells that there are more.
func appendTexts(b []byte, messages []relay.Message) (texts []byte, cut bool) {
	for i := range messages {
		e, _, ok := entryOf(&messages[i])
		if !ok {
			continue
		}
		if len(b) > 0 {
			if len(b)+len(e.text) > historyBytes {
				return b, true
			}
			b = append(b, ',')
		}
		b = append(b, e.text...)
	}
	return b, false
}

// appendRoom appends a Room of a hello. c and online are nil when the client has not
// asked.
func appendRoom(b []byte, r *room, texts []byte, more bool, c *catchUpState, online []byte) []byte {
	b = append(append(b, r.head...), texts...)
	b = append(b, `],"hasMoreMessages":`...)
	b = strconv.AppendBool(b, more)
	b = appendCatchUp(b, c)
	if online != nil {
		b = append(append(b, `,"online":`...), online...)
	}
	return append(b, '}')
}

// appendPresence appends the frame of a presence.
func appendPresence(frame []byte, r *room, user []byte, online bool) []byte {
	b := append([]byte(`{"type":"presence","payload":{"roomId":`), r.quoted...)
	b = append(append(b, `,"user":`...), user...)
	b = strconv.AppendBool(append(b, `,"online":`...), online)
	return conn.AppendFrame(frame, conn.OpText, append(b, `}}`...))
}

// appendTyping appends the frame of a typing.
func appendTyping(frame []byte, r *room, user []byte) []byte {
	b := append([]byte(`{"type":"typing","payload":{"roomId":`), r.quoted...)
	b = append(append(b, `,"user":`...), user...)
	return conn.AppendFrame(frame, conn.OpText, append(b, `}}`...))
}

// appendError appends the frame of an error; room is quoted, or nil when it concerns
// none.
func appendError(frame []byte, p *problem, room []byte) []byte {
	if room == nil {
		room = []byte("null")
	}
	b := append([]byte(`{"type":"error","payload":{"code":"`), p.code...)
	b = append(append(b, `","message":"`...), p.message...)
	b = append(append(b, `","roomId":`...), room...)
	return conn.AppendFrame(frame, conn.OpText, append(b, `}}`...))
}

// nonceLength is that of session.nonce.
const nonceLength = 16

// typingBody is the body of a typing event.
func typingBody(nonce string, r *room) []byte { return []byte(string(bodyTyping) + nonce + r.ID) }

// typingOf reads a typing event.
func typingOf(m *relay.Message) (nonce, room string, ok bool) {
	if len(m.Body) <= 1+nonceLength || m.Body[0] != bodyTyping {
		return "", "", false
	}
	return string(m.Body[1 : 1+nonceLength]), string(m.Body[1+nonceLength:]), true
}
