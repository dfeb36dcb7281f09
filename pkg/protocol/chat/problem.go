package chat

// problem is why a request failed, as the client is told.
type problem struct{ code, message string }

var (
	errRequest     = &problem{"BAD_REQUEST", "the frame is no JSON of the form {type, payload} with a known type and all its members"}
	errRoom        = &problem{"UNKNOWN_ROOM", "there is no such room"}
	errEmpty       = &problem{"EMPTY_MESSAGE", "a message must have a content, and a frame a message"}
	errTooLong     = &problem{"MESSAGE_TOO_LONG", "the content is too long"}
	errTooMany     = &problem{"TOO_MANY_MESSAGES", "too many messages in one frame"}
	errTooFast     = &problem{"RATE_LIMITED", "too many messages: slow down"}
	errUnavailable = &problem{"UNAVAILABLE", "that could not be done right now: try again"}
	errFull        = &problem{"ROOM_FULL", "the room takes no messages right now: try again later"}
	errGap         = &problem{"HISTORY_GAP", "messages of the room may be missing that are nowhere any more"}
)

func errorCodes() (codes []string) {
	for _, p := range []*problem{errRequest, errRoom, errEmpty, errTooLong, errTooMany, errTooFast, errUnavailable, errFull, errGap} {
		codes = append(codes, p.code)
	}
	return codes
}
