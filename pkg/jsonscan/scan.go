// Package jsonscan walks over JSON text without building values, for frames that
// come by the thousand: what is needed of them is cut out as it was written.
package jsonscan

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// MaxDepth bounds how deep values may nest.
const MaxDepth = 64

// ErrJSON means that a text is not JSON, or nests too deep.
var ErrJSON = errors.New("not JSON")

// Scanner walks over JSON text (RFC 8259). Every method checks what it passes, so
// that a text that was walked over from end to end is valid JSON; strings are only
// recognised: the whole text must have been found to be UTF-8 (Valid) before. What it
// returns is part of the text. It belongs to one goroutine.
type Scanner struct {
	b  []byte
	at int
}

// New returns a scanner at the beginning of a text.
func New(text []byte) Scanner { return Scanner{b: text} }

// Peek skips white space and returns the next byte, 0 at the end.
func (s *Scanner) Peek() byte {
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

// Take skips white space and the byte c; false when another one comes.
func (s *Scanner) Take(c byte) bool {
	if s.Peek() != c {
		return false
	}
	s.at++
	return true
}

// Str returns the next string with its quotes.
func (s *Scanner) Str() ([]byte, error) {
	if s.Peek() != '"' {
		return nil, ErrJSON
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
			return nil, ErrJSON
		case c == '\\':
			if i++; i >= len(s.b) {
				return nil, ErrJSON
			}
			switch s.b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; i >= len(s.b) || !isHex(s.b[i]) {
						return nil, ErrJSON
					}
				}
			default:
				return nil, ErrJSON
			}
		}
	}
	return nil, ErrJSON
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

// Value returns the text of the next value, whatever it is; depth is in how many
// others it lies.
func (s *Scanner) Value(depth int) ([]byte, error) {
	if depth > MaxDepth {
		return nil, ErrJSON
	}
	c := s.Peek()
	from := s.at
	var err error
	switch {
	case c == '"':
		return s.Str()
	case c == '{':
		err = s.Members(func([]byte) error {
			_, err := s.Value(depth + 1)
			return err
		})
	case c == '[':
		err = s.Elements(func() error {
			_, err := s.Value(depth + 1)
			return err
		})
	case c == '-' || '0' <= c && c <= '9':
		err = s.number()
	default:
		err = s.literal()
	}
	return s.b[from:s.at], err
}

// Members walks over an object. For each member f is called with the key, and
// must walk over the value.
func (s *Scanner) Members(f func(key []byte) error) error {
	if !s.Take('{') {
		return ErrJSON
	}
	if s.Take('}') {
		return nil
	}
	for {
		key, err := s.Str()
		if err != nil {
			return err
		}
		if !s.Take(':') {
			return ErrJSON
		}
		if err := f(Unquote(key)); err != nil {
			return err
		}
		if s.Take('}') {
			return nil
		}
		if !s.Take(',') {
			return ErrJSON
		}
	}
}

// Elements walks over an array. For each element f is called, and must walk over it.
func (s *Scanner) Elements(f func() error) error {
	if !s.Take('[') {
		return ErrJSON
	}
	if s.Take(']') {
		return nil
	}
	for {
		if err := f(); err != nil {
			return err
		}
		if s.Take(']') {
			return nil
		}
		if !s.Take(',') {
			return ErrJSON
		}
	}
}

// digits skips digits and tells how many there were.
func (s *Scanner) digits() (n int) {
	for s.at < len(s.b) && '0' <= s.b[s.at] && s.b[s.at] <= '9' {
		s.at++
		n++
	}
	return n
}

// next skips one byte if it is among those of set.
func (s *Scanner) next(set string) bool {
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

func (s *Scanner) number() error {
	s.next("-")
	zero := s.at < len(s.b) && s.b[s.at] == '0'
	if n := s.digits(); n == 0 || zero && n > 1 {
		return ErrJSON
	}
	if s.next(".") && s.digits() == 0 {
		return ErrJSON
	}
	if s.next("eE") {
		s.next("+-")
		if s.digits() == 0 {
			return ErrJSON
		}
	}
	return nil
}

func (s *Scanner) literal() error {
	for _, l := range []string{"null", "true", "false"} {
		if len(s.b)-s.at >= len(l) && string(s.b[s.at:s.at+len(l)]) == l {
			s.at += len(l)
			return nil
		}
	}
	return ErrJSON
}

// End tells whether nothing but white space is left.
func (s *Scanner) End() bool { return s.Peek() == 0 && s.at == len(s.b) }

// Unquote returns what a string that Str or Value has returned means. Without escapes
// that is a part of the text itself. Half of a surrogate pair becomes U+FFFD.
func Unquote(quoted []byte) []byte {
	for _, c := range quoted {
		if c == '\\' {
			var v string
			_ = json.Unmarshal(quoted, &v) // was walked over: it is a string
			return []byte(v)
		}
	}
	return quoted[1 : len(quoted)-1]
}

// Mend replaces each half of a surrogate pair that stands alone in a string by U+FFFD,
// in place: JSON allows them, many readers do not. The string is one that Str or Value
// has returned.
func Mend(quoted []byte) {
	for i := 0; i+6 <= len(quoted); i++ {
		if quoted[i] != '\\' {
			continue
		}
		if quoted[i+1] != 'u' {
			i++
			continue
		}
		switch {
		case !isSurrogate(quoted[i:]):
		case isHigh(quoted[i:]) && i+12 <= len(quoted) && quoted[i+6] == '\\' && quoted[i+7] == 'u' && isSurrogate(quoted[i+6:]) && !isHigh(quoted[i+6:]):
			i += 6
		default:
			copy(quoted[i+2:], "fffd")
		}
		i += 5
	}
}

// isSurrogate tells whether an escape \uXXXX is half of a surrogate pair, and isHigh
// whether such a one is the first half.
func isSurrogate(escape []byte) bool {
	return (escape[2] == 'd' || escape[2] == 'D') && escape[3] >= '8'
}

func isHigh(escape []byte) bool {
	return escape[3] < 'a' && escape[3] < 'A' || escape[3]|0x20 < 'c' && escape[3] > '9'
}

// Valid tells whether a text is UTF-8.
func Valid(b []byte) bool { return utf8.Valid(b) }
