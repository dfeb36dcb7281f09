package chat

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/coder/websocket"

	"parley/pkg/conn"
	"parley/pkg/relaytest"
)

// A transcript is what goes over the wire between a server and some clients, in its
// order. Its lines are like these; alice and bob are clients and the users that they
// are signed in as, with the ids 1 and 2, others get the next ones:
//
//	alice connect ?presence=1  opens a connection, with a query or without
//	alice> {"type":...}        alice sends a text message
//	alice>binary {"type":...}  a binary one
//	alice>close 1000 reason    alice closes, and gets the close back
//	alice< {"type":...}        alice receives exactly this
//	alice< *                   or anything
//	alice<close 1008 reason    alice receives a close
//	repeat alice> ...          alice sends this, and gets BAD_REQUEST about no room
//	# remark
//
// At the end each client that is still open must get the answer to a mistake as its
// next message: nothing came that the transcript does not show.
func play(t *testing.T, f *fixture, lines []string) {
	clients := map[string]*client{}
	users := int64(2)
	line := regexp.MustCompile(`^(repeat )?(\S+?)(?: (connect)|([<>])(binary|close|)) ?(.*)$`)
	for n, text := range lines {
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		l := line.FindStringSubmatch(text)
		if l == nil {
			t.Fatalf("line %d: %s", n+1, text)
		}
		who, way, how, rest := l[2], l[4], l[5], l[6]
		c := clients[who]
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("line %d: %s\n%s", n+1, text, fmt.Sprintf(format, args...))
		}
		switch {
		case l[3] != "":
			if who != "alice" && who != "bob" {
				users++
				f.signIn(users, who)
			}
			clients[who] = f.connect(t, who, rest)
		case way == ">" && how == "close":
			code, reason, _ := strings.Cut(rest, " ")
			status, _ := strconv.Atoi(code)
			if err := c.Close(websocket.StatusCode(status), reason); err != nil {
				fail("%v", err)
			}
			delete(clients, who)
		case way == ">":
			typ := websocket.MessageText
			if how == "binary" {
				typ = websocket.MessageBinary
			}
			if err := c.Write(context.Background(), typ, []byte(rest)); err != nil {
				fail("%v", err)
			}
			if l[1] != "" {
				c.wantError(errRequest, "")
			}
		case how == "close":
			code, reason, _ := strings.Cut(rest, " ")
			status, _ := strconv.Atoi(code)
			c.wantClose(websocket.StatusCode(status), reason)
			delete(clients, who)
		default:
			got, closed := c.read()
			if closed != nil || rest != "*" && got != rest {
				fail("got %s %+v", got, closed)
			}
		}
	}
	for who, c := range clients {
		c.send("the end")
		if got, _ := c.read(); !strings.Contains(got, errRequest.code) {
			t.Errorf("%s got what the transcript does not show: %s", who, got)
		}
	}
}

func TestTranscripts(t *testing.T) {
	relaytest.Transcripts(t, func(t *testing.T, settings string, lines []string) {
		playBoth(t, Config{MaxMessageBytes: relaytest.MaxMessageBytes(t, settings)}, lines)
	})
}

func playBoth(t *testing.T, cfg Config, lines []string) {
	t.Run("in memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { play(t, newFixture(t, true, cfg, conn.Config{}), lines) })
	})
	t.Run("over TCP", func(t *testing.T) { play(t, newFixture(t, false, cfg, conn.Config{}), lines) })
}

// The page for writers of clients shows every error and every close code, and its
// examples are what happens.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, code := range errorCodes() {
		if !strings.Contains(page, "\n| `"+code+"` |") {
			t.Errorf("%s is not in the table of errors", code)
		}
	}
	for _, code := range []int{conn.CodeProtocolError, conn.CodePolicy, conn.CodeTooBig, conn.CodeInternal, conn.CodeRestart, conn.CodeTryLater, conn.CodeIdle} {
		if !strings.Contains(page, fmt.Sprintf("\n| %d |", code)) {
			t.Errorf("%d is not in the table of close codes", code)
		}
	}
	relaytest.Examples(t, page, 3, func(t *testing.T, lines []string) { playBoth(t, Config{}, lines) })
}
