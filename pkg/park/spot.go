package park

import (
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// writeTimeout is how long a peer may take to take an answer.
const writeTimeout = 10 * time.Second

// Cause is why a Wait has ended.
type Cause uint8

// What Wait returns.
const (
	Woken Cause = iota // by Wake, perhaps before
	Late               // its time is over
	Gone               // the peer has gone: nobody is there to be answered
	Input              // the peer has sent something more, which is for after the answer
)

// Spot is a parked request. Its methods belong to its Guest's Answer, but for Wake.
type Spot struct {
	// Fixed.
	lot    *Lot
	nc     *net.TCPConn
	raw    syscall.RawConn
	header []byte // of the answer, as it is written
	keep   bool   // the peer wants to use the connection again

	woken atomic.Bool

	// Owned by the one who waits.
	early    []byte // came before the request was parked
	answered bool   // an answer was begun
	whole    bool   // it was written
}

// Wake ends a Wait, the next one if nobody waits. It never blocks, and may be called from
// any goroutine, but not after its Guest has answered: the connection may be the
// server's again by then.
func (s *Spot) Wake() {
	s.woken.Store(true)
	_ = s.nc.SetReadDeadline(time.Unix(1, 0)) // an error means that it is closed
}

// Wait waits for a Wake, but not beyond a moment, and not for a peer that has gone, or
// does not wait.
func (s *Spot) Wait(until time.Time) Cause {
	switch {
	case until.IsZero(): // which would be no deadline
		return Late
	case len(s.early) > 0:
		return Input
	}
	_ = s.nc.SetReadDeadline(until) // an error shows below
	if s.woken.Swap(false) {        // after that: it has set a deadline too
		return Woken
	}
	for {
		cause := Late
		err := s.raw.Read(func(fd uintptr) (done bool) {
			cause, done = look(fd)
			return done
		})
		switch {
		case err == nil:
			return cause
		case s.woken.Swap(false):
			return Woken
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return Gone
		case !time.Now().Before(until):
			return Late
		}
		// The deadline of a Wake that was noticed before it was set.
		if s.nc.SetReadDeadline(until) != nil {
			return Gone
		}
	}
}

// look tells what there is to read, without reading it; false when there is nothing.
func look(fd uintptr) (Cause, bool) {
	var b [1]byte
	for {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return Late, false
		case err != nil, n == 0:
			return Gone, true
		default:
			return Input, true
		}
	}
}

// errAnswered means that there has been an answer, or a part of one.
var errAnswered = errors.New("the request was answered before")

// Answer writes the answer, in ten seconds at most, with these fields besides those that
// the header had when the request was parked. An error means that it was not
// wholly written. A second call does nothing and is an error.
func (s *Spot) Answer(status int, body []byte, fields ...Field) error {
	if s.answered {
		return errAnswered
	}
	s.answered = true
	b := make([]byte, 0, 256+len(s.header)+len(body))
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(append(append(b, ' '), http.StatusText(status)...), "\r\n"...)
	b = append(b, s.header...)
	for _, f := range fields {
		b = appendField(b, f.Name, f.Value)
	}
	b = appendField(b, "Content-Length", strconv.Itoa(len(body)))
	b = append(b, "Date: "...)
	b = append(time.Now().UTC().AppendFormat(b, http.TimeFormat), "\r\n"...)
	if s.lot.draining.Load() {
		s.keep = false
	}
	if !s.keep {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(append(b, "\r\n"...), body...)
	if err := s.nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := s.nc.Write(b)
	s.whole = err == nil
	return err
}

// Field is one of a header.
type Field struct{ Name, Value string }

var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ")

func appendField(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	return append(append(b, lineBreaks.Replace(value)...), "\r\n"...)
}

// headerOf is a header as it is written.
func headerOf(h http.Header) []byte {
	var b strings.Builder
	_ = h.Write(&b) // which never fails
	return []byte(b.String())
}
