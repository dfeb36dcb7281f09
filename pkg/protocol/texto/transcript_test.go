package texto

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"parley/pkg/conn"
	"parley/pkg/relaytest"
)

// A transcript is what goes over the wire between a server and some clients, in
// its order. Its archive has the files "settings" (optional, a name and a value a
// line) and "transcript", of lines like these; a, b and so on are clients:
//
//	a connect ?nogreet=1   opens a connection, with a query or without
//	a> {"kind":...}        a sends a text message
//	a>binary {"kind":...}  a binary one
//	a>text "\xff"          a text message written as a Go string
//	a>raw 89 80 00000000   bytes in hexadecimal, straight to the socket
//	a>close 1000 reason    a closes, and gets the close back
//	a< {"kind":...}        a receives exactly this
//	a<close 1009 reason    a receives a close; without a reason, any
//	repeat 3 a> ...        the same, three times
//	broker fails           or works, hangs, loses, stalls
//	broker flushes         what it keeps is lost, and another history begins
//	gap $a                 messages for a may be missing here
//	wait 1.5s              the clock goes on
//	# remark
//
// $name stands for a UUID. In what is received a new name matches any, and from
// then on the same one; in what is sent it is a fresh one. $_ matches any, always,
// and is always fresh; $name.upper is written in upper case. $[x*3] is xxx. Names
// that start with token_ stand for resume tokens instead; $token matches any.
//
// At the end each client that is still open must get the answer to a registration
// as its next message: nothing came that the transcript does not show.
type transcript struct {
	t       *testing.T
	f       *fixture
	clients map[string]*client
	ids     map[string]string // and tokens
	// standing is what a client's connection messages end with.
	standing map[string]string
}

// clockWord marks transcripts that need a clock of their own.
const clockWord = "wait "

func TestTranscripts(t *testing.T) {
	relaytest.Transcripts(t, func(t *testing.T, settings string, lines []string) {
		cfg, limits := Config{Node: "node-1"}, conn.Config{}
		set(t, settings, &cfg, &limits)
		t.Run("in memory", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { play(t, newFixture(t, true, cfg, limits), lines) })
		})
		if !strings.Contains(strings.Join(lines, "\n"), "\n"+clockWord) {
			t.Run("over TCP", func(t *testing.T) { play(t, newFixture(t, false, cfg, limits), lines) })
		}
	})
}

// set reads the settings of a transcript.
func set(t *testing.T, settings string, cfg *Config, limits *conn.Config) {
	t.Helper()
	for line := range strings.Lines(settings) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		var err error
		switch name {
		case "":
		case "retention":
			cfg.Retention.Length = 5
			cfg.Retention.Age, err = time.ParseDuration(value)
		case "rate":
			cfg.Rate, err = strconv.ParseFloat(value, 64)
		case "max-message-bytes":
			cfg.MaxMessageBytes, err = strconv.Atoi(value)
		case "max-frame-bytes":
			limits.MaxFrameBytes, err = strconv.Atoi(value)
		case "idle-timeout":
			limits.IdleTimeout, err = time.ParseDuration(value)
		default:
			t.Fatalf("a setting %q", line)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func play(t *testing.T, f *fixture, lines []string) {
	s := &transcript{t, f, map[string]*client{}, map[string]string{}, map[string]string{}}
	for _, line := range lines {
		s.line(line)
		if t.Failed() {
			return
		}
	}
	for name := range s.clients {
		s.line(name + `> {"id":"$end_` + name + `","kind":"registration"}`)
		s.line(name + `< {"client_id":"$me_` + name + `","id":"$end_` + name + `","kind":"connection","data":{"client_id":"$me_` + name + `","node":"node-1","resume":"$token"` + s.standing[name] + `}}`)
		s.line(name + ">close 1000")
	}
}

// unseen is the standing of a session that has asked to be resumed.
const unseen = "?"

// standingForm is what the connection messages of a resumed session end with.
var standingForm = regexp.MustCompile(`,"recovered":(true|false)`)

var lineForm = regexp.MustCompile(`^([a-z])(>|<| )(connect|binary|text|raw|close)?(?: (.*))?$`)

func (s *transcript) line(line string) {
	s.t.Helper()
	times := 1
	full := line
	if rest, ok := strings.CutPrefix(line, "repeat "); ok {
		n, rest, _ := strings.Cut(rest, " ")
		var err error
		if times, err = strconv.Atoi(n); err != nil {
			s.t.Fatalf("%s: %v", line, err)
		}
		line = rest
	}
	for range times {
		if !s.once(line) {
			s.t.Fatalf("not understood: %s", full)
		}
	}
}

// once plays a line; false if it is none.
func (s *transcript) once(line string) bool {
	s.t.Helper()
	if line == "" || line[0] == '#' {
		return true
	}
	if line == "broker flushes" {
		s.f.broker.flush()
		return true
	}
	if name, ok := strings.CutPrefix(line, "gap "); ok {
		id, err := uuid.Parse(s.outgoing(name))
		s.f.broker.gap(topicOf(id))
		return err == nil
	}
	if word, ok := strings.CutPrefix(line, "broker "); ok {
		state, ok := map[string]brokerState{"works": brokerWorks, "fails": brokerFails, "hangs": brokerHangs,
			"loses": brokerLoses, "stalls": brokerStalls}[word]
		s.f.broker.set(state)
		return ok
	}
	if word, ok := strings.CutPrefix(line, clockWord); ok {
		d, err := time.ParseDuration(word)
		time.Sleep(d)
		return err == nil
	}
	m := lineForm.FindStringSubmatch(line)
	if m == nil {
		return false
	}
	name, verb, rest := m[1], m[2]+m[3], m[4]
	if verb == " connect" {
		s.clients[name] = s.f.connect(s.t, s.outgoing(rest))
		s.standing[name] = ""
		if strings.Contains(rest, "resume=$token") {
			s.standing[name] = unseen
		}
		return true
	}
	c := s.clients[name]
	if c == nil {
		return false
	}
	switch verb {
	case ">":
		c.send(s.t, websocket.MessageText, s.outgoing(rest))
	case ">binary":
		c.send(s.t, websocket.MessageBinary, s.outgoing(rest))
	case ">text":
		text, err := strconv.Unquote(s.outgoing(rest))
		if err != nil {
			return false
		}
		c.send(s.t, websocket.MessageText, text)
	case ">raw":
		b, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
		if err != nil {
			return false
		}
		if _, err := c.nc.Write(b); err != nil {
			s.t.Fatalf("%s: %v", line, err)
		}
	case ">close":
		code, reason, err := closeWords(rest)
		if err != nil {
			return false
		}
		if err := c.ws.Close(code, reason); err != nil {
			s.t.Errorf("%s: %v", line, err)
		}
		delete(s.clients, name)
	case "<":
		got, closed := c.read(s.t)
		if closed != nil {
			s.t.Fatalf("%s: closed, %v", line, closed)
		}
		if err := s.compare(rest, got); err != nil {
			s.t.Errorf("%.300s\n%v", line, err)
		}
		if s.standing[name] == unseen {
			s.standing[name] = standingForm.FindString(rest)
		}
	case "<close":
		code, reason, err := closeWords(rest)
		if err != nil {
			return false
		}
		got, closed := c.read(s.t)
		if closed == nil {
			s.t.Fatalf("%s: got %s", line, got)
		}
		if closed.Code != code || reason != "" && closed.Reason != reason {
			s.t.Errorf("%s: got %v", line, closed)
		}
		delete(s.clients, name)
	default:
		return false
	}
	return true
}

func closeWords(s string) (websocket.StatusCode, string, error) {
	word, reason, _ := strings.Cut(s, " ")
	code, err := strconv.Atoi(word)
	return websocket.StatusCode(code), reason, err
}

var (
	idForm     = regexp.MustCompile(`\$(\w+)(\.upper)?`)
	repeatForm = regexp.MustCompile(`\$\[(.)\*(\d+)\]`)
)

// repeats writes out what is written like $[x*3].
func repeats(s string) string {
	return repeatForm.ReplaceAllStringFunc(s, func(form string) string {
		m := repeatForm.FindStringSubmatch(form)
		n, _ := strconv.Atoi(m[2]) // digits
		return strings.Repeat(m[1], n)
	})
}

// outgoing fills placeholders in.
func (s *transcript) outgoing(line string) string {
	return idForm.ReplaceAllStringFunc(repeats(line), func(form string) string {
		m := idForm.FindStringSubmatch(form)
		id, ok := s.ids[m[1]]
		if !ok {
			id = uuid.NewString()
			if m[1] != "_" {
				s.ids[m[1]] = id
			}
		}
		if m[2] != "" {
			return strings.ToUpper(id)
		}
		return id
	})
}

// compare checks what was received, and notes the UUIDs of new names.
func (s *transcript) compare(want, got string) error {
	const anyID = `([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})`
	anyToken := fmt.Sprintf(`([\w-]{%d})`, tokenLength)
	want = repeats(want)
	var pattern strings.Builder
	var fresh []string
	at := 0
	for _, place := range idForm.FindAllStringSubmatchIndex(want, -1) {
		name := want[place[2]:place[3]]
		pattern.WriteString(regexp.QuoteMeta(want[at:place[0]]))
		if id, ok := s.ids[name]; ok {
			pattern.WriteString(id)
		} else if strings.HasPrefix(name, "token") {
			pattern.WriteString(anyToken)
			fresh = append(fresh, name)
		} else {
			pattern.WriteString(anyID)
			fresh = append(fresh, name)
		}
		at = place[1]
	}
	pattern.WriteString(regexp.QuoteMeta(want[at:]))
	m := regexp.MustCompile("^(?s:" + pattern.String() + ")$").FindStringSubmatch(got)
	if m == nil {
		return fmt.Errorf("got %.300s\nwith %v", got, s.ids)
	}
	for i, name := range fresh {
		if id, ok := s.ids[name]; ok && id != m[i+1] {
			return fmt.Errorf("got %.300s\nwhere $%s stands for two ids", got, name)
		}
		if name != "_" && name != "token" {
			s.ids[name] = m[i+1]
		}
	}
	return nil
}

// A transcript's placeholders must be able to fail.
func TestTranscriptCompares(t *testing.T) {
	const one, two = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{"$known", one, true},
		{"$known", two, false},
		{"$new $new", one + " " + one, true},
		{"$new $new", one + " " + two, false},
		{"$_ $_", one + " " + two, true},
		{"$new", "no uuid", false},
		{"$[a*3].", "aaa.", true},
		{"a.c", "abc", false},
	} {
		s := &transcript{ids: map[string]string{"known": one}}
		if err := s.compare(c.want, c.got); (err == nil) != c.ok {
			t.Errorf("%q against %q: %v, want a match: %v", c.want, c.got, err, c.ok)
		}
	}
}
