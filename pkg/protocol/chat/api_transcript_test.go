package chat

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/tools/txtar"

	"parley/pkg/account"
	"parley/pkg/account/accounttest"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
	"parley/pkg/web"
)

// An apiTranscript is some requests and what they are answered with. Its archive has
// the files "settings" (optional, a name and a value a line) and "transcript", in which
// each exchange looks like this:
//
//	> POST /api/login          the request
//	> Name: value              its headers; Host, Content-Length and, for one with a
//	                           body that does not name another, Content-Type
//	                           application/json are added
//	> {"email":...}            its body: the lines from the first that is no header
//	< 204                      the answer's status
//	< Name: value              all of its headers, but for Date and Content-Length
//	< {"id":...}               its body
//
// and between them there may be
//
//	from 192.0.2.1             the address that the next requests come from
//	redis fails                or works
//	database fails             the same
//	wait 5m                    the clock goes on
//	# remark
//
// $name stands for a session's token: a new one in what is received, that one from then
// on. $[x*3] is xxx, and \n and the like are read in a body that begins with a quote.
type apiTranscript struct {
	t       *testing.T
	dial    func(t *testing.T) io.ReadWriteCloser
	users   *accounttest.Users
	store   *accounttest.Store
	from    string
	tokens  map[string]string
	request []string
	answer  []string
}

// apiWhole is an API on accounts in memory, behind proxies in 10.0.0.0/8 and with one
// foreign origin that may come.
type apiWhole struct {
	users     accounttest.Users
	store     accounttest.Store
	publisher accounttest.Publisher
	handler   http.Handler
}

func newAPIWhole(t testing.TB, perAccount, perAddress int, log io.Writer) *apiWhole {
	t.Helper()
	proxies, err := web.ParseProxies("10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	origins, err := web.ParseOrigins("https://app.example.com")
	if err != nil {
		t.Fatal(err)
	}
	a := &apiWhole{}
	l := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	accounts := account.New(account.Config{Users: &a.users, Values: &a.store, Meter: &a.store, Publisher: &a.publisher,
		FailuresPerAccount: perAccount, FailuresPerAddress: perAddress, Log: l})
	a.handler = NewAPI(APIConfig{Accounts: accounts, Proxies: proxies, Origins: origins, Log: l})
	return a
}

func TestAPITranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/api/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		limits := map[string]int{"failures-per-account": 0, "failures-per-address": 0}
		var lines []string
		for _, part := range archive.Files {
			switch part.Name {
			case "settings":
				for line := range strings.Lines(string(part.Data)) {
					name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
					if _, ok := limits[name]; !ok {
						t.Fatalf("%s: a setting %q", file, line)
					}
					if limits[name], err = strconv.Atoi(value); err != nil {
						t.Fatal(err)
					}
				}
			case "transcript":
				lines = strings.Split(strings.TrimRight(string(part.Data), "\n"), "\n")
			default:
				t.Fatalf("%s: a file %q", file, part.Name)
			}
		}
		if len(lines) == 0 {
			t.Fatalf("%s: no transcript", file)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				playAPI(t, limits["failures-per-account"], limits["failures-per-address"], lines)
			})
		})
	}
}

func playAPI(t *testing.T, perAccount, perAddress int, lines []string) {
	var log bytes.Buffer
	whole := newAPIWhole(t, perAccount, perAddress, &log)
	s := &apiTranscript{t: t, users: &whole.users, store: &whole.store, from: "192.0.2.1:1", tokens: map[string]string{}}
	pipes := relaytest.NewPipes()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = s.from
		whole.handler.ServeHTTP(w, r)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(pipes) }()
	s.dial = func(t *testing.T) io.ReadWriteCloser {
		nc, err := pipes.Dial()
		if err != nil {
			t.Fatal(err)
		}
		return nc
	}
	for i, line := range append(lines, "# end") {
		if !s.line(line) {
			t.Errorf("line %d is not understood: %s", i+1, line)
		}
		if t.Failed() {
			break
		}
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	<-served
	time.Sleep(time.Minute) // by the clock of the test: connections that were cut linger
	for _, token := range s.tokens {
		if strings.Contains(log.String(), token) {
			t.Errorf("the token %s is in the log", token)
		}
	}
	for _, secret := range []string{"password", "1234567890", "@", "alice", "bob", "carol"} {
		if strings.Contains(strings.ReplaceAll(log.String(), "wrong password", ""), secret) {
			t.Errorf("%q is in the log:\n%s", secret, log.String())
		}
	}
}

// line plays a line; false when it is none.
func (s *apiTranscript) line(line string) bool {
	s.t.Helper()
	if rest, ok := strings.CutPrefix(line, "<"); ok {
		s.answer = append(s.answer, strings.TrimPrefix(rest, " "))
		return true
	}
	if s.answer != nil {
		s.exchange()
		s.request, s.answer = nil, nil
	}
	if rest, ok := strings.CutPrefix(line, ">"); ok {
		s.request = append(s.request, strings.TrimPrefix(rest, " "))
		return true
	}
	word, rest, _ := strings.Cut(line, " ")
	fault := map[string]error{"fails": fmt.Errorf("%w: the transcript says so", relay.ErrUnavailable), "works": nil}
	switch word {
	case "", "#":
		return true
	case "from":
		s.from = rest + ":1"
		return rest != ""
	case "redis":
		err, ok := fault[rest]
		s.store.Fail(err)
		return ok
	case "database":
		err, ok := fault[rest]
		s.users.Fail(err)
		return ok
	case "wait":
		d, err := time.ParseDuration(rest)
		time.Sleep(d)
		return err == nil
	}
	return false
}

var (
	apiHeaderForm = regexp.MustCompile(`^[A-Z][A-Za-z-]*:( |$)`)
	apiTokenForm  = regexp.MustCompile(`\$(\w+)`)
	apiRepeatForm = regexp.MustCompile(`\$\[(.)\*(\d+)\]`)
)

// split takes the headers from the lines of a request or an answer.
func (s *apiTranscript) split(lines []string) (headers http.Header, body string) {
	headers = http.Header{}
	for len(lines) > 0 && apiHeaderForm.MatchString(lines[0]) {
		name, value, _ := strings.Cut(lines[0], ":")
		headers.Add(name, strings.TrimSpace(value))
		lines = lines[1:]
	}
	body = strings.Join(lines, "\n")
	body = apiRepeatForm.ReplaceAllStringFunc(body, func(form string) string {
		m := apiRepeatForm.FindStringSubmatch(form)
		n, _ := strconv.Atoi(m[2]) // digits
		return strings.Repeat(m[1], n)
	})
	if text, err := strconv.Unquote(body); err == nil {
		body = text
	}
	return headers, body
}

// exchange sends the request and compares the answer.
func (s *apiTranscript) exchange() {
	s.t.Helper()
	if len(s.request) == 0 {
		s.t.Fatalf("an answer without a request: %s", s.answer[0])
	}
	known := func(line string) string {
		return apiTokenForm.ReplaceAllStringFunc(line, func(form string) string {
			if token, ok := s.tokens[form[1:]]; ok {
				return token
			}
			return form
		})
	}
	for i := range s.request {
		s.request[i] = known(s.request[i])
	}
	headers, body := s.split(s.request[1:])
	if headers.Get("Host") == "" {
		headers.Set("Host", "chat.example")
	}
	if _, named := headers["Content-Type"]; !named && body != "" {
		headers.Set("Content-Type", "application/json")
	}
	if headers.Get("Transfer-Encoding") == "" {
		headers.Set("Content-Length", strconv.Itoa(len(body)))
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s HTTP/1.1\r\n", s.request[0])
	if err := headers.Write(&out); err != nil {
		s.t.Fatal(err)
	}
	out.WriteString("\r\n" + body)
	nc := s.dial(s.t)
	defer nc.Close()
	go func() { // the answer may come before all is read
		_, _ = nc.Write(out.Bytes())
	}()
	method, _, _ := strings.Cut(s.request[0], " ")
	got, err := http.ReadResponse(bufio.NewReader(nc), &http.Request{Method: method})
	if err != nil {
		s.t.Fatalf("%s: %v", s.request[0], err)
	}
	text, err := io.ReadAll(got.Body)
	if err != nil {
		s.t.Fatalf("%s: %v", s.request[0], err)
	}
	s.compare(got, string(text))
}

func (s *apiTranscript) compare(got *http.Response, body string) {
	s.t.Helper()
	wantHeaders, wantBody := s.split(s.answer[1:])
	got.Header.Del("Date")
	got.Header.Del("Content-Length")
	if got.Close { // which the library has taken from the headers
		got.Header.Set("Connection", "close")
	}
	if status := strconv.Itoa(got.StatusCode); status != s.answer[0] {
		s.t.Errorf("%s: status %s, want %s; %s", s.request[0], status, s.answer[0], body)
	}
	if strings.TrimSuffix(body, "\n") != wantBody {
		s.t.Errorf("%s: the body is\n%s\nwant\n%s", s.request[0], body, wantBody)
	}
	names := slices.Sorted(maps.Keys(wantHeaders))
	if has := slices.Sorted(maps.Keys(got.Header)); !slices.Equal(has, names) {
		s.t.Errorf("%s: headers %v, want %v", s.request[0], has, names)
	}
	for _, name := range names {
		want, has := strings.Join(wantHeaders[name], "\n"), strings.Join(got.Header[name], "\n")
		if err := s.match(want, has); err != nil {
			s.t.Errorf("%s: %s: %v", s.request[0], name, err)
		}
	}
}

// match compares a header, and notes new tokens.
func (s *apiTranscript) match(want, got string) error {
	var pattern strings.Builder
	var fresh []string
	at := 0
	for _, place := range apiTokenForm.FindAllStringSubmatchIndex(want, -1) {
		name := want[place[2]:place[3]]
		pattern.WriteString(regexp.QuoteMeta(want[at:place[0]]))
		if token, ok := s.tokens[name]; ok {
			pattern.WriteString(regexp.QuoteMeta(token))
		} else {
			pattern.WriteString(`([\w-]{43})`)
			fresh = append(fresh, name)
		}
		at = place[1]
	}
	pattern.WriteString(regexp.QuoteMeta(want[at:]))
	m := regexp.MustCompile("^(?s:" + pattern.String() + ")$").FindStringSubmatch(got)
	if m == nil {
		return fmt.Errorf("%q, want %q with %v", got, want, s.tokens)
	}
	for i, name := range fresh {
		for other, token := range s.tokens {
			if token == m[i+1] {
				return fmt.Errorf("%q, where $%s is $%s again", got, name, other)
			}
		}
		s.tokens[name] = m[i+1]
	}
	return nil
}

// A transcript's placeholders must be able to fail.
func TestAPITranscriptCompares(t *testing.T) {
	one, two := strings.Repeat("1", 43), strings.Repeat("2", 43)
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{"sid=$known; x", "sid=" + one + "; x", true}, {"sid=$known; x", "sid=" + two + "; x", false},
		{"sid=$new; x", "sid=" + two + "; x", true}, {"sid=$new; x", "sid=" + one + "; x", false},
		{"sid=$new", "sid=short", false}, {"a.c", "abc", false},
	} {
		s := &apiTranscript{tokens: map[string]string{"known": one}}
		if err := s.match(c.want, c.got); (err == nil) != c.ok {
			t.Errorf("%q against %q: %v, want a match: %v", c.want, c.got, err, c.ok)
		}
	}
}
