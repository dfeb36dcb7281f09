package rest

import (
	_ "embed"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"parley/pkg/relaytest"
)

//go:embed README.md
var page string

// A transcript plays requests of alice (1), bobby (2), carol (3) and dave (4), each of
// them to another node of three than the one before:
//
//	alice> GET /Users/me       a request begins
//	alice> Name: value         its header
//	alice> {"email":...}       its body
//	alice< 200 {...}           the answer to her oldest request: status and body
//	alice< Name: value         a header of it
//	# remark
//
// $name in an answer stands for anything, which is put in its place in requests and
// answers from then on; $[x*3] is xxx. Whose name ends with an exclamation mark has no token.
type transcript struct {
	t      *testing.T
	f      *fleet
	next   int // node
	known  map[string]string
	who    string   // whose lines these are
	lines  []string // of a request that is being read
	sent   map[string][]*request
	answer map[string]*answered // the last one
}

func TestTranscripts(t *testing.T) {
	relaytest.Transcripts(t, func(t *testing.T, settings string, lines []string) { play(t, lines) })
}

func TestExamples(t *testing.T) { relaytest.Examples(t, page, 3, play) }

func play(t *testing.T, lines []string) {
	tr := &transcript{t: t, f: newFleet(t, options{nodes: 3}), known: map[string]string{}, sent: map[string][]*request{}, answer: map[string]*answered{}}
	for _, n := range tr.f.nodes {
		n := n
		relaytest.Eventually(t, "redis answers", func() bool { return n.bus.Ready() == nil })
	}
	for i, line := range lines {
		if !tr.line(strings.TrimSpace(line)) {
			t.Errorf("line %d is not understood: %s", i+1, line)
		}
		if t.Failed() {
			t.Fatalf("line %d: %s", i+1, line)
		}
	}
	tr.send()
	for who, open := range tr.sent {
		for _, r := range open {
			t.Errorf("%s does not say what %s is answered with", who, r.what)
		}
	}
}

var (
	transcriptLine   = regexp.MustCompile(`^(\w+!?)([<>]) (.*)$`)
	transcriptHeader = regexp.MustCompile(`^[A-Z][A-Za-z-]*:( |$)`)
	transcriptName   = regexp.MustCompile(`\$(\w+)`)
	transcriptRepeat = regexp.MustCompile(`\$\[(.)\*(\d+)\]`)
	transcriptStatus = regexp.MustCompile(`^(\d{3})(?: (.*))?$`)
)

func (tr *transcript) line(line string) bool {
	tr.t.Helper()
	if line == "" || line[0] == '#' {
		tr.send()
		return true
	}
	m := transcriptLine.FindStringSubmatch(line)
	if m == nil {
		return false
	}
	who, rest := m[1], transcriptRepeat.ReplaceAllStringFunc(m[3], func(form string) string {
		m := transcriptRepeat.FindStringSubmatch(form)
		n, _ := strconv.Atoi(m[2]) // digits
		return strings.Repeat(m[1], n)
	})
	isPart := transcriptHeader.MatchString(rest) || rest[0] == '{'
	if m[2] == ">" {
		if !isPart || who != tr.who {
			tr.send()
		}
		tr.who, tr.lines = who, append(tr.lines, tr.fill(rest))
		return true
	}
	tr.send()
	if transcriptHeader.MatchString(rest) {
		name, value, _ := strings.Cut(rest, ":")
		tr.compare(tr.fill(strings.TrimSpace(value)), tr.answer[who].Header.Get(name), line)
		return true
	}
	status := transcriptStatus.FindStringSubmatch(rest)
	if status == nil || len(tr.sent[who]) == 0 {
		return false
	}
	a := tr.sent[who][0].get()
	tr.answer[who], tr.sent[who] = a, tr.sent[who][1:]
	if got := strconv.Itoa(a.StatusCode); got != status[1] {
		tr.t.Errorf("%s: answered with %s %s", line, got, a.text)
	}
	tr.compare(tr.fill(status[2]), a.text, line)
	return true
}

// send sends the request that was read, if there is one.
func (tr *transcript) send() {
	tr.t.Helper()
	if len(tr.lines) == 0 {
		return
	}
	method, path, _ := strings.Cut(tr.lines[0], " ")
	var header []string
	body := ""
	for _, line := range tr.lines[1:] {
		if transcriptHeader.MatchString(line) {
			header = append(header, line)
		} else {
			body += line
		}
	}
	token := ""
	if p := tr.f.users[tr.who]; p != nil {
		token = p.token
	}
	n := tr.f.nodes[tr.next%len(tr.f.nodes)]
	tr.next++
	before := n.lot.Len()
	r := n.ask(token, method, path, body, header...)
	tr.sent[tr.who] = append(tr.sent[tr.who], r)
	tr.lines = nil
	if strings.HasPrefix(path, "/me") { // else what comes next might be before it
		relaytest.Eventually(tr.t, "the poll waits, or is answered", func() bool { return n.lot.Len() > before || !r.open() })
	}
}

// fill puts what is known in its place.
func (tr *transcript) fill(text string) string {
	return transcriptName.ReplaceAllStringFunc(text, func(form string) string {
		if known, ok := tr.known[form[1:]]; ok {
			return known
		}
		return form
	})
}

// compare holds a text against what it should be, and learns what was not known.
func (tr *transcript) compare(want, got, line string) {
	tr.t.Helper()
	names := []string{}
	form, last := "", 0
	for _, at := range transcriptName.FindAllStringIndex(want, -1) {
		form += regexp.QuoteMeta(want[last:at[0]]) + `([^",}]+)`
		names = append(names, want[at[0]+1:at[1]])
		last = at[1]
	}
	form += regexp.QuoteMeta(want[last:])
	m := regexp.MustCompile("^" + form + "$").FindStringSubmatch(got)
	if m == nil {
		tr.t.Errorf("%s\ngot  %s\nwant %s", line, got, want)
		return
	}
	for i, name := range names {
		tr.known[name] = m[i+1]
	}
}
