package crowd

import "parley/cmd/parley-bench/internal/texto"

// maxSeen is how many ids a client remembers: those of all messages that a
// server keeps for it.
const maxSeen = 1000

// seen remembers the last ids. The zero value is empty. One goroutine owns it.
type seen struct {
	ids  map[[texto.IDLen]byte]struct{}
	ring [][texto.IDLen]byte
	next int
}

// add remembers an id and tells whether it was known.
func (s *seen) add(id []byte) bool {
	var key [texto.IDLen]byte
	copy(key[:], id)
	if _, known := s.ids[key]; known {
		return true
	}
	if s.ids == nil {
		s.ids = map[[texto.IDLen]byte]struct{}{}
	}
	s.ids[key] = struct{}{}
	if len(s.ring) < maxSeen {
		s.ring = append(s.ring, key)
		return false
	}
	delete(s.ids, s.ring[s.next])
	s.ring[s.next] = key
	s.next = (s.next + 1) % maxSeen
	return false
}
