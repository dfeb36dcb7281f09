package texto

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// maxDepth bounds how deep a value that is skipped may nest.
const maxDepth = 64

var errJSON = errors.New("not JSON")

// scanner walks over JSON text (RFC 8259) without building values. Every method
// checks what it passes, so that a text that was walked over from end to end is
// valid JSON; strings are only recognised, since the whole text was found to be
// UTF-8 before.
type scanner struct {
	b  []byte
	at int
}

// peek skips white space and returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	for s.at < len(s.b) {
		switch c := s.b[s.at]; c {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// take skips white space and the byte c; false when another one comes.
func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

// str returns the next string with its quotes.
func (s *scanner) str() ([]byte, error) {
	if s.peek() != '"' {
		return nil, errJSON
	}
	from := s.at
	for i := from + 1; i < len(s.b); i++ {
		i += plain(s.b[i:])
		if i == len(s.b) {
			break
		}
		switch c := s.b[i]; {
		case c == '"':
			s.at = i + 1
			return s.b[from:s.at], nil
		case c < ' ':
			return nil, errJSON
		case c == '\\':
			if i++; i >= len(s.b) {
				return nil, errJSON
			}
			switch s.b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; i >= len(s.b) || !isHex(s.b[i]) {
						return nil, errJSON
					}
				}
			default:
				return nil, errJSON
			}
		}
	}
	return nil, errJSON
}

// plain is how many bytes at the start of b, in steps of eight, surely mean
// themselves in a string: no quote, no backslash, no control character. Eight
// bytes are tested at once (the "determine if a word has a byte" tests of Sean
// Anderson's Bit Twiddling Hacks).
func plain(b []byte) (n int) {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	for ; len(b)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(b[n:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		special := (w-ones*' ') & ^w | (quote-ones) & ^quote | (slash-ones) & ^slash
		if special&highs != 0 {
			return n
		}
	}
	return n
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// value returns the text of the next value, whatever it is.
func (s *scanner) value(depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errJSON
	}
	c := s.peek()
	from := s.at
	var err error
	switch {
	case c == '"':
		return s.str()
	case c == '{':
		err = s.members(func([]byte) error {
			_, err := s.value(depth + 1)
			return err
		})
	case c == '[':
		err = s.elements(depth)
	case c == '-' || '0' <= c && c <= '9':
		err = s.number()
	default:
		err = s.literal()
	}
	return s.b[from:s.at], err
}

// members walks over an object. For each member f is called with the key, and
// must walk over the value.
func (s *scanner) members(f func(key []byte) error) error {
	if !s.take('{') {
		return errJSON
	}
	if s.take('}') {
		return nil
	}
	for {
		key, err := s.str()
		if err != nil {
			return err
		}
		if !s.take(':') {
			return errJSON
		}
		if err := f(unquote(key)); err != nil {
			return err
		}
		if s.take('}') {
			return nil
		}
		if !s.take(',') {
			return errJSON
		}
	}
}

func (s *scanner) elements(depth int) error {
	s.at++
	if s.take(']') {
		return nil
	}
	for {
		if _, err := s.value(depth + 1); err != nil {
			return err
		}
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return errJSON
		}
	}
}

// digits skips digits and tells how many there were.
func (s *scanner) digits() (n int) {
	for s.at < len(s.b) && '0' <= s.b[s.at] && s.b[s.at] <= '9' {
		s.at++
		n++
	}
	return n
}

// next skips one byte if it is among those of set.
func (s *scanner) next(set string) bool {
	if s.at < len(s.b) {
		for i := range len(set) {
			if s.b[s.at] == set[i] {
				s.at++
				return true
			}
		}
	}
	return false
}

func (s *scanner) number() error {
	s.next("-")
	zero := s.at < len(s.b) && s.b[s.at] == '0'
	if n := s.digits(); n == 0 || zero && n > 1 {
		return errJSON
	}
	if s.next(".") && s.digits() == 0 {
		return errJSON
	}
	if s.next("eE") {
		s.next("+-")
		if s.digits() == 0 {
			return errJSON
		}
	}
	return nil
}

func (s *scanner) literal() error {
	for _, l := range []string{"null", "true", "false"} {
		if len(s.b)-s.at >= len(l) && string(s.b[s.at:s.at+len(l)]) == l {
			s.at += len(l)
			return nil
		}
	}
	return errJSON
}

// end tells whether nothing but white space is left.
func (s *scanner) end() bool { return s.peek() == 0 && s.at == len(s.b) }

// unquote returns what a string means. Without escapes that is a part of the
// text itself.
func unquote(quoted []byte) []byte {
	for _, c := range quoted {
		if c == '\\' {
			var v string
			_ = json.Unmarshal(quoted, &v) // was walked over: it is a string
			return []byte(v)
		}
	}
	return quoted[1 : len(quoted)-1]
}

func validText(b []byte) bool { return utf8.Valid(b) }
