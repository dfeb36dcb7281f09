package park

import (
	"time"

	"golang.org/x/sys/unix"
)

// Pauses between two looks, of which the next one is twice as long. A peer's kernel may
// take its time (40 ms, on Linux) to say what it has.
const (
	firstLook = time.Millisecond
	lastLook  = 32 * time.Millisecond
)

// Taken tells whether the peer's system has all of the answer, and waits for that as long
// as it may. What was written to a peer that has gone is not taken, though writing it was no
// error; nor, as far as that is known by then, what it has not read.
func (s *Spot) Taken(patience time.Duration) bool {
	until := time.Now().Add(patience)
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		left, err := s.unsent()
		switch {
		case err != nil || s.reset():
			return false
		case left == 0:
			return true
		case time.Now().Add(pause).After(until):
			return false
		}
		time.Sleep(pause)
	}
}

// unsent is how many bytes the peer's system has not confirmed. It stays above zero when
// the peer has refused them.
func (s *Spot) unsent() (left int, err error) {
	controlErr := s.raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	if controlErr != nil {
		return 0, controlErr
	}
	return left, err
}

// reset tells whether the peer has refused what was written, or has not read it and has
// gone. Closing its side after it has read all is neither.
func (s *Spot) reset() bool {
	failed := false
	err := s.raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		failed = err != nil && err != unix.EAGAIN && err != unix.EINTR
	})
	return failed || err != nil
}
