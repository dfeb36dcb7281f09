package rooms

import (
	"context"
	"encoding/hex"
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

// A transcript is what goes over the wire between a fleet of two nodes and some
// clients, in its order. There is a room 7 for three clients, with the secret 99. Lines
// are like these, where ann is a client:
//
//	ann connect 2         opens a connection to the second node; to the first without
//	ann> REQUEST_KICK ClientID:1   sends a payload with this flag and this message
//	ann>text anything     sends a text frame
//	ann>hex 0880          sends a binary frame
//	ann>close             closes, and waits until the close comes back
//	ann< RESPONSE_CONNECT ID:0 Secret:$s   receives exactly this; what stands where a
//	                      name begins with $ is remembered, and must be the same later
//	ann<hex 0808          receives these bytes
//	ann<close 4002 kicked receives a close
//	room closed           the room is closed over HTTP
//	# remark
//
// Fields are shown in the order of the .proto, zeros included. At the end each client
// that is still open must get the answer to a mistake as its next message: nothing came
// that the transcript does not show.
func play(t *testing.T, f *fixture, lines []string) {
	clients := map[string]*client{}
	known := map[string]string{}
	line := regexp.MustCompile(`^(\w+)(?: (connect|closed)|([<>])(text|hex|close|)) ?(.*)$`)
	name := regexp.MustCompile(`\$\w+`)
	for n, text := range lines {
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		l := line.FindStringSubmatch(text)
		if l == nil {
			t.Fatalf("line %d: %s", n+1, text)
		}
		who, event, way, how, rest := l[1], l[2], l[3], l[4], l[5]
		c := clients[who]
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("line %d: %s\n%s", n+1, text, fmt.Sprintf(format, args...))
		}
		switch {
		case event == "connect":
			node, _ := strconv.Atoi("0" + rest)
			clients[who] = f.connect(t, max(node-1, 0))
		case event == "closed":
			f.close(t, 7)
		case way == ">" && how == "close":
			if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
				fail("%v", err)
			}
			delete(clients, who)
		case way == ">" && how == "text":
			if err := c.Write(context.Background(), websocket.MessageText, []byte(rest)); err != nil {
				fail("%v", err)
			}
		case way == ">" && how == "hex":
			b, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
			if err != nil {
				fail("%v", err)
			}
			c.sendBytes(b)
		case way == ">":
			c.send(name.ReplaceAllStringFunc(rest, func(s string) string { return known[s] }))
		case how == "close":
			code, reason, _ := strings.Cut(rest, " ")
			status, _ := strconv.Atoi(code)
			c.wantClose(status, reason)
			delete(clients, who)
		default:
			b, closed := c.readFrame()
			if closed != nil {
				fail("got %+v", closed)
			}
			if how == "hex" {
				if got := hex.EncodeToString(b); got != strings.ReplaceAll(rest, " ", "") {
					fail("got %s", got)
				}
				continue
			}
			got := decode(t, b)
			want, is := strings.Split(rest, " "), strings.Split(got, " ")
			for i := range min(len(want), len(is)) {
				if s := name.FindString(want[i]); s != "" {
					if known[s] == "" {
						known[s] = is[i][min(len(is[i]), strings.Index(want[i], s)):]
					}
					want[i] = strings.Replace(want[i], s, known[s], 1)
				}
			}
			if strings.Join(want, " ") != got {
				fail("got %s", got)
			}
		}
	}
	for who, c := range clients {
		if err := c.Write(context.Background(), websocket.MessageText, []byte("the end")); err != nil {
			t.Fatal(err)
		}
		if got, closed := c.read(); !strings.Contains(got, errText.text) {
			t.Errorf("%s got what the transcript does not show: %s %v", who, got, closed)
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
	for _, p := range problems {
		if !strings.Contains(page, fmt.Sprintf("\n| %d | %s |", p.status, p.text)) {
			t.Errorf("%d %s is not in the table of errors", p.status, p.text)
		}
	}
	for _, code := range []int{conn.CodeProtocolError, conn.CodePolicy, conn.CodeTooBig, conn.CodeInternal, conn.CodeRestart,
		conn.CodeTryLater, conn.CodeIdle, conn.CodeKicked, conn.CodeRoomClosed} {
		if !strings.Contains(page, fmt.Sprintf("\n| %d |", code)) {
			t.Errorf("%d is not in the table of close codes", code)
		}
	}
	relaytest.Examples(t, page, 1, func(t *testing.T, lines []string) { playBoth(t, Config{}, lines) })
}
