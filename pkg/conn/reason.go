package conn

// Reason says why a connection ended; it is the label of a metric and stands in
// the log.
type Reason uint8

const (
	reasonNone     Reason = iota
	ReasonClient          // the client closed
	ReasonNetwork         // the network failed, or the client left without a close
	ReasonProtocol        // the client broke the rules of WebSocket
	ReasonTooBig          // a frame over the limit
	ReasonSlow            // too much queued, or no progress in writing
	ReasonPing            // no answer to a ping
	ReasonIdle            // nothing heard for the idle timeout
	ReasonFlood           // kept sending far over the rate limit
	ReasonDrain           // the node is going down
	ReasonBroker          // Redis could not be reached when the client came
	ReasonTakeover        // another connection has taken the session over
	ReasonAuth            // the client is not signed in, or not any more
	ReasonBehind          // the node has missed more than it can show
	ReasonKicked          // the host of its room has sent the client away
	ReasonRoomGone        // its room is no more
	ReasonSeat            // the client has, or may have, lost its place in its room
	ReasonInternal        // our own failure
	reasonCount
)

var reasonNames = [reasonCount]string{"none", "client_closed", "network_error", "protocol_error",
	"message_too_big", "slow_reader", "ping_timeout", "idle_timeout", "flood", "drain",
	"redis_unavailable", "takeover", "not_signed_in", "behind", "kicked", "room_gone", "seat_lost", "internal_error"}

func (r Reason) String() string { return reasonNames[r] }

// Close codes of WebSocket (RFC 6455, section 7.4, and the registry of IANA) and
// those that Parley adds.
const (
	CodeProtocolError = 1002
	CodePolicy        = 1008 // flood, or not signed in
	CodeTooBig        = 1009
	CodeInternal      = 1011
	CodeRestart       = 1012 // the node drains: come back, to another one
	CodeTryLater      = 1013 // slow reader, or Redis not available
	CodeIdle          = 4000
	CodeTakenOver     = 4001 // another connection has the session now
	CodeKicked        = 4002 // the host of the room has sent the client away
	CodeRoomClosed    = 4003 // the room is no more
)
