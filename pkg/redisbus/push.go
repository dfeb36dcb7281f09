package redisbus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

const (
	// pushBytes is the size of the buffer that a subscriber's connection is read into;
	// it grows for what is larger, and shrinks when that was read.
	pushBytes = 64 << 10
	// maxPush bounds one element, as Redis does.
	maxPush = 512 << 20
	// maxPushLine bounds a line: a length, or an error.
	maxPushLine = 4 << 10
	// maxPushElements bounds the elements; none that Redis sends has more than four.
	maxPushElements = 8
)

var errPush = errors.New("redis sends a subscriber what is no message")

// push is what Redis sends to a subscriber. The strings share memory.
type push struct {
	kind    string // "message", "subscribe" and so on; "" for what is of no interest
	channel string
	payload string // of a message
}

// pushReader reads what Redis sends to a subscriber (RESP2, the protocol's description
// at redis.io). The library does that too, in a dozen small pieces of memory for each
// message; here it is one. It belongs to one goroutine.
type pushReader struct {
	from    io.Reader
	buf     []byte
	at, end int // of what is not parsed yet
}

func newPushReader(from io.Reader) *pushReader {
	return &pushReader{from: from, buf: make([]byte, pushBytes)}
}

// next waits for a push and returns it.
func (r *pushReader) next() (push, error) {
	for {
		p, n, err := parsePush(r.buf[r.at:r.end])
		switch {
		case err != nil:
			return p, err
		case n > 0:
			if r.at += n; r.at == r.end {
				r.at, r.end = 0, 0
				if len(r.buf) > pushBytes {
					r.buf = make([]byte, pushBytes)
				}
			}
			return p, nil
		}
		if err := r.fill(-n); err != nil {
			return p, err
		}
	}
}

// fill reads at least once, until there are so many bytes.
func (r *pushReader) fill(need int) error {
	if r.at > 0 {
		r.end = copy(r.buf, r.buf[r.at:r.end])
		r.at = 0
	}
	if size := max(need, r.end+1); size > len(r.buf) {
		// Not at once as large as somebody says that it will be.
		grown := make([]byte, min(max(size, 2*len(r.buf)), 2*len(r.buf)+pushBytes))
		copy(grown, r.buf[:r.end])
		r.buf = grown
	}
	n, err := r.from.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// parsePush reads the push that b begins with, and returns how many bytes it has. When
// it is not whole yet the number is not positive: at least so many bytes, negated, are
// needed, as far as is known.
func parsePush(b []byte) (p push, n int, err error) {
	line, n := cutLine(b)
	if n == 0 && len(b) <= maxPushLine {
		return p, 0, nil
	}
	if len(line) == 0 {
		return p, 0, errPush
	}
	switch line[0] {
	case '+', ':':
		return p, n, nil
	case '-':
		return p, n, fmt.Errorf("redis says: %s", line[1:])
	case '*':
	default:
		return p, 0, errPush
	}
	count, ok := parseLength(line[1:])
	if !ok || count < 1 || count > maxPushElements {
		return p, 0, errPush
	}
	var from, to [3]int // of the first elements
	for i := range count {
		line, k := cutLine(b[n:])
		if k == 0 && len(b)-n <= maxPushLine {
			return p, -n - 1, nil
		}
		if len(line) == 0 || line[0] != '$' && line[0] != ':' {
			return p, 0, errPush
		}
		n += k
		if line[0] == ':' {
			continue
		}
		size, ok := parseLength(line[1:])
		if !ok || size > maxPush {
			return p, 0, errPush
		}
		if size < 0 { // null
			continue
		}
		end := n + size
		if len(b) < end+2 {
			return p, -end - 2, nil
		}
		if b[end] != '\r' || b[end+1] != '\n' {
			return p, 0, errPush
		}
		if i < len(from) {
			from[i], to[i] = n, end
		}
		n = end + 2
	}
	switch kind := b[from[0]:to[0]]; string(kind) {
	case "message", "smessage":
		if to[1] == 0 || to[2] == 0 {
			return p, 0, errPush
		}
		both := string(b[from[1]:to[2]])
		p = push{kind: "message", channel: both[:to[1]-from[1]], payload: both[from[2]-from[1]:]}
	case "subscribe", "ssubscribe":
		p = push{kind: "subscribe", channel: string(b[from[1]:to[1]])}
	case "sunsubscribe":
		p = push{kind: "sunsubscribe", channel: string(b[from[1]:to[1]])}
	}
	return p, n, nil
}

// cutLine returns the line that b begins with, without its end, and how many bytes it
// has with it; 0 when it is not whole.
func cutLine(b []byte) (line []byte, n int) {
	at := bytes.IndexByte(b, '\n')
	if at < 1 || b[at-1] != '\r' {
		if at >= 0 { // no line of Redis
			return nil, at + 1
		}
		return nil, 0
	}
	return b[:at-1], at + 1
}

// parseLength reads a whole number of up to ten digits.
func parseLength(b []byte) (n int, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 10 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	if negative {
		n = -n
	}
	return n, true
}
