package rooms

import (
	"errors"
	"slices"
	"strconv"

	"parley/pkg/relay"
)

// problem is why a request failed, as the client is told: an HTTP status and a text.
type problem struct {
	status int32
	text   string
}

// What clients are told.
var (
	errPayload   = &problem{400, "the payload does not parse"}
	errText      = &problem{400, "send binary frames"}
	errFlag      = &problem{400, "unknown flag of a request"}
	errRoom      = &problem{400, "wrong room id or secret"}
	errClient    = &problem{400, "wrong client id or secret"}
	errConnected = &problem{400, "the client is connected; if its node has died, its place is free within 15 seconds"}
	errFull      = &problem{400, "the room is full"}
	errInRoom    = &problem{400, "in a room already"}
	errNoRoom    = &problem{400, "not in a room: connect first"}
	errSeat      = &problem{400, "not in the room any more"}
	errNotHost   = &problem{400, "only the host may do that"}
	errMoved     = &problem{400, "not host any more: the message was not relayed"}
	errHost      = &problem{400, "the host cannot send to itself"}
	errTarget    = &problem{400, "unknown target"}
	errNoTarget  = &problem{400, "a target is missing"}
	errRelayType = &problem{400, "unknown type of relay"}
	errTooLong   = &problem{413, "the data is too long"}
	errTooFast   = &problem{429, "too many messages: slow down"}
	errAway      = &problem{500, "that could not be done right now: try again"}
	errUnsent    = &problem{500, "the message may not have been relayed"}
	errGap       = &problem{500, "messages of the room may be missing"}
)

// problems are all of them.
var problems = []*problem{errPayload, errText, errFlag, errRoom, errClient, errConnected, errFull, errInRoom, errNoRoom, errSeat,
	errNotHost, errMoved, errHost, errTarget, errNoTarget, errRelayType, errTooLong, errTooFast, errAway, errUnsent, errGap}

// problemOf is how a client is told of an error of relay.Seats.
func problemOf(err error) *problem {
	switch {
	case errors.Is(err, relay.ErrNoRoom):
		return errRoom
	case errors.Is(err, relay.ErrNoClient):
		return errClient
	case errors.Is(err, relay.ErrConnected):
		return errConnected
	case errors.Is(err, relay.ErrRoomFull):
		return errFull
	case errors.Is(err, relay.ErrNotHost):
		return errNotHost
	case errors.Is(err, relay.ErrNoSeat):
		return errSeat
	}
	return errAway
}

// codes are those of all problems, for the metrics.
func codes() (all []string) {
	for _, p := range problems {
		if code := p.code(); !slices.Contains(all, code) {
			all = append(all, code)
		}
	}
	return all
}

func (p *problem) code() string { return strconv.Itoa(int(p.status)) }
