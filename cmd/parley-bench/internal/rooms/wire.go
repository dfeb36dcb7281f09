// Package rooms is relay rooms as a client of the load generator speaks them: rooms
// are made over HTTP, connections join them, broadcasts are stamped into a prepared
// frame. The codec is its own, so that an error of the server's would show.
package rooms

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Flag says what a payload is.
type Flag int32

// The flags. Requests are the client's, responses the server's.
const (
	RequestRelay Flag = iota
	RequestConnect
	RequestReconnect
	RequestList
	RequestKick
	RequestGrant
	ResponseRelay
	ResponseConnect
	ResponseAssign // the receiver is host now
	ResponseBegin  // whoever was host is not any more
	ResponseFinish // who is host
	ResponseList
	ResponseKick
	ResponseError
	ResponseJoined // to the host: a client has come
	ResponseLeft   // to the host: a client has gone
)

// String names the flag as the protocol does.
func (f Flag) String() string {
	names := [...]string{"REQUEST_RELAY_MESSAGE", "REQUEST_CONNECT", "REQUEST_RECONNECT", "REQUEST_LIST", "REQUEST_KICK",
		"REQUEST_GRANT_HOST", "RESPONSE_RELAY_MESSAGE", "RESPONSE_CONNECT", "RESPONSE_ASSIGN_HOST", "RESPONSE_BEGIN_HOST_MIGRATE",
		"RESPONSE_FINISH_HOST_MIGRATE", "RESPONSE_LIST", "RESPONSE_KICK", "RESPONSE_ERROR", "RESPONSE_CLIENT_CONNECT",
		"RESPONSE_CLIENT_DISCONNECT"}
	if f >= 0 && int(f) < len(names) {
		return names[f]
	}
	return fmt.Sprintf("flag %d", int32(f))
}

// RelayType is to whom a relay goes.
type RelayType int32

// The relay types.
const (
	Broadcast RelayType = iota // from the host to everybody else
	ToClient                   // from the host to one client
	ToHost                     // from another client to the host
)

// Payload is a message of the server. What it points to is valid as long as what it
// was parsed from.
type Payload struct {
	Flag Flag
	Data []byte
}

// Relay is what a client says to others, as it was sent.
type Relay struct {
	Type      RelayType
	Target    int32
	HasTarget bool
	Data      []byte
}

// Fields of the messages. Most have one or two numbers.
const (
	payloadFlag, payloadData           = 1, 2
	errorCode, errorMessage            = 1, 2
	relayType, relayTarget, relayData  = 1, 2, 3
	clientID, clientSecret, clientHost = 1, 2, 2
	listEntry                          = 1
	joinRoom, joinSecret               = 1, 2
	rejoinClient, rejoinClientSecret   = 3, 4
	onlyID                             = 1 // of kicks, grants, and who has become host
)

// fields calls each for every field of a message: with a number, or with what has a
// length. A field of another kind is skipped.
func fields(b []byte, each func(field protowire.Number, n uint64, bytes []byte)) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch kind {
		case protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				each(field, v, nil)
			}
		case protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(b); n >= 0 {
				each(field, 0, v)
			}
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	return nil
}

// ParsePayload reads what comes in a frame.
func ParsePayload(b []byte) (p Payload, err error) {
	err = fields(b, func(field protowire.Number, n uint64, bytes []byte) {
		switch field {
		case payloadFlag:
			p.Flag = Flag(n)
		case payloadData:
			p.Data = bytes
		}
	})
	return p, err
}

// ParseRelay reads the data of a relay.
func ParseRelay(b []byte) (r Relay, err error) {
	err = fields(b, func(field protowire.Number, n uint64, bytes []byte) {
		switch field {
		case relayType:
			r.Type = RelayType(n)
		case relayTarget:
			r.Target, r.HasTarget = int32(n), true
		case relayData:
			r.Data = bytes
		}
	})
	return r, err
}

// ParseClient reads the data of ResponseConnect.
func ParseClient(b []byte) (id, secret int32, err error) {
	err = fields(b, func(field protowire.Number, n uint64, _ []byte) {
		switch field {
		case clientID:
			id = int32(n)
		case clientSecret:
			secret = int32(n)
		}
	})
	return id, secret, err
}

// Member is a client as others see it.
type Member struct {
	ID   int32
	Host bool
}

// ParseMember reads the data of ResponseJoined and ResponseLeft.
func ParseMember(b []byte) (m Member, err error) {
	err = fields(b, func(field protowire.Number, n uint64, _ []byte) {
		switch field {
		case clientID:
			m.ID = int32(n)
		case clientHost:
			m.Host = n != 0
		}
	})
	return m, err
}

// ParseList reads the data of ResponseList.
func ParseList(b []byte) (members []Member, err error) {
	var inner error
	err = fields(b, func(field protowire.Number, _ uint64, bytes []byte) {
		if field == listEntry {
			m, err := ParseMember(bytes)
			if err != nil {
				inner = err
			}
			members = append(members, m)
		}
	})
	if err == nil {
		err = inner
	}
	return members, err
}

// ParseID reads the data of ResponseFinish, ResponseKick, and of a ResponseAssign that
// has some.
func ParseID(b []byte) (id int32, err error) {
	err = fields(b, func(field protowire.Number, n uint64, _ []byte) {
		if field == onlyID {
			id = int32(n)
		}
	})
	return id, err
}

// ParseError reads the data of ResponseError.
func ParseError(b []byte) (*Error, error) {
	e := new(Error)
	err := fields(b, func(field protowire.Number, n uint64, bytes []byte) {
		switch field {
		case errorCode:
			e.Code = int(int32(n))
		case errorMessage:
			e.Message = string(bytes)
		}
	})
	return e, err
}

// Error is an answer to a request that was not fulfilled.
type Error struct {
	Code    int
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("the server says %d: %s", e.Code, e.Message) }

// AppendPayload appends a payload.
func AppendPayload(dst []byte, flag Flag, data []byte) []byte {
	dst = appendNumber(dst, payloadFlag, int32(flag))
	if len(data) > 0 {
		dst = protowire.AppendTag(dst, payloadData, protowire.BytesType)
		dst = protowire.AppendBytes(dst, data)
	}
	return dst
}

// AppendRelay appends the data of a relay.
func AppendRelay(dst []byte, r Relay) []byte {
	dst = appendNumber(dst, relayType, int32(r.Type))
	if r.HasTarget {
		dst = protowire.AppendTag(dst, relayTarget, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(int64(r.Target)))
	}
	if len(r.Data) > 0 {
		dst = protowire.AppendTag(dst, relayData, protowire.BytesType)
		dst = protowire.AppendBytes(dst, r.Data)
	}
	return dst
}

// appendNumber appends a field, unless it is zero.
func appendNumber(dst []byte, field protowire.Number, v int32) []byte {
	if v == 0 {
		return dst
	}
	dst = protowire.AppendTag(dst, field, protowire.VarintType)
	return protowire.AppendVarint(dst, uint64(int64(v)))
}

// appendNumbers appends fields 1 and up.
func appendNumbers(dst []byte, values ...int32) []byte {
	for i, v := range values {
		dst = appendNumber(dst, protowire.Number(i+1), v)
	}
	return dst
}
