package texto

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"parley/pkg/conn"
)

// problems are all errors that a client may get.
var problems = []*problem{notJSON, notMessage, unknownKind, badSend, badRegister, wrongClient, tooFast, tooBig, notAccepted, notConnected, badToken}

// The page for writers of clients shows every error and every close code as they
// are, and its examples are what it says they are.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, p := range problems {
		want := fmt.Sprintf(`{"code": %q, "description": %q}`, p.code, p.description)
		if !strings.Contains(page, want) {
			t.Errorf("no example of %s", want)
		}
		if !strings.Contains(page, "| `"+p.code+"` |") {
			t.Errorf("%s is not in the table of codes", p.code)
		}
	}
	for _, code := range []int{conn.CodeProtocolError, conn.CodePolicy, conn.CodeTooBig, conn.CodeInternal, conn.CodeRestart, conn.CodeTryLater, conn.CodeIdle, conn.CodeTakenOver} {
		if !strings.Contains(page, fmt.Sprintf("\n| %d |", code)) {
			t.Errorf("%d is not in the table of close codes", code)
		}
	}
	codes := map[string]bool{}
	for _, p := range problems {
		codes[p.code] = true
	}
	kinds := map[string]int{}
	for _, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(block[1]) {
			var m message
			if err := json.Unmarshal([]byte(line), &m); err != nil && !strings.Contains(line, `"client_id": "me"`) {
				t.Errorf("%s%v", line, err)
			}
			kinds[m.Kind]++
			if m.Kind == "error" && !codes[m.Data.Code] {
				t.Errorf("an error with a code that does not exist: %s", line)
			}
			// What a client may send is taken as the page says.
			if r, p := decode([]byte(line)); p == nil && m.Kind == "send" && r.kind != kindSend {
				t.Errorf("not a send: %s", line)
			}
		}
	}
	for _, kind := range []string{"connection", "registration", "send", "receive", "ack", "error"} {
		if kinds[kind] == 0 {
			t.Errorf("no example of %s", kind)
		}
		if !strings.Contains(page, "\n### "+kind+" (") {
			t.Errorf("no section about %s", kind)
		}
	}
}
