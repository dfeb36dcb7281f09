package rooms_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	"parley/pkg/childproc"
	"parley/pkg/node"
	"parley/pkg/protocol/rooms/roomspb"
	"parley/pkg/relaytest"
)

// nodeCommand has this test's program be a node: as a process of its own it can be
// killed, and it has the race detector if the test has.
const nodeCommand = "node"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == nodeCommand {
		os.Exit(beNode(os.Args[2:]))
	}
	os.Exit(m.Run())
}

const listening = "listening on "

// beNode runs a node until it is killed.
func beNode(args []string) int {
	cfg, err := node.ParseConfig(args, func(string) string { return "" }, io.Discard)
	if err != nil {
		fmt.Println(err)
		return 2
	}
	n, err := node.New(cfg, slog.New(slog.NewTextHandler(os.Stdout, nil)))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(listening + n.Addr().String())
	if err := n.Run(context.Background(), nil); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// process is a node.
type process struct {
	addr string
	args []string
	log  *childproc.Log
	*childproc.Child
}

// startNodes runs nodes on a Redis until the test ends, which fails if one of them ends
// by itself.
func startNodes(t *testing.T, n int, redisURL string) (all []*process) {
	t.Helper()
	for i := range n {
		p := &process{addr: "127.0.0.1:0", args: []string{nodeCommand, "--internal-addr=off", "--rate=0", "--rooms-max-clients=10000",
			"--redis-url=" + redisURL, fmt.Sprintf("--node-name=n%d", i+1), "--fleet-secret=the secret of the tests"}}
		p.start(t)
		t.Cleanup(func() {
			if ended(p.Exited) {
				t.Errorf("node %s has ended by itself", p.addr)
			}
			p.kill(t)
			if log := p.log.Since(0); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic: ") || t.Failed() {
				t.Errorf("node %s:\n%s", p.addr, log)
			}
		})
		all = append(all, p)
	}
	return all
}

// start runs the node, at the address that it had before, and returns when it serves.
func (p *process) start(t *testing.T) {
	t.Helper()
	if p.log == nil {
		p.log = new(childproc.Log)
	}
	from := p.log.Len()
	child, err := childproc.Launch(os.Args[0], append(p.args, "--listen="+p.addr), p.log)
	if err != nil {
		t.Fatal(err)
	}
	p.Child = child
	relaytest.Eventually(t, "the node serves", func() bool {
		if ended(p.Exited) {
			t.Fatalf("the node ended at once: %s", p.log.Since(from))
		}
		_, rest, _ := strings.Cut(p.log.Since(from), listening)
		addr, _, whole := strings.Cut(rest, "\n")
		if !whole {
			return false
		}
		if p.addr != addr { // the first time: later others read it
			p.addr = addr
		}
		answer, err := http.Get("http://" + addr + "/healthz")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// kill ends the node by SIGKILL.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	<-p.Exited
}

// ended tells whether a channel is closed.
func ended(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// info is a room as the API shows it.
type info struct {
	ID      int32 `json:"id"`
	Secret  int32 `json:"secret"`
	Clients int32 `json:"current_clients"`
}

// call asks a node's API.
func (p *process) call(t *testing.T, method, path string, body any) (data info) {
	t.Helper()
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			t.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.addr+"/v1/api/rooms"+path, &text)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var envelope struct {
		Data    info
		Message string
	}
	if err := json.NewDecoder(answer.Body).Decode(&envelope); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %q, %v", method, path, answer.Status, envelope.Message, err)
	}
	return envelope.Data
}

// socket is a client's connection. One goroutine uses it.
type socket struct {
	*websocket.Conn
	hostings int // times that it was told that it is host
}

func (p *process) dial(ctx context.Context) (*socket, error) {
	ws, _, err := websocket.Dial(ctx, "ws://"+p.addr+"/v1/websocket", nil)
	if err != nil {
		return nil, err
	}
	return &socket{Conn: ws}, nil
}

// ask sends a request.
func (s *socket) ask(ctx context.Context, flag roomspb.FlagType, data proto.Message) error {
	p := &roomspb.Payload{Flag: flag}
	if data != nil {
		var err error
		if p.Data, err = proto.Marshal(data); err != nil {
			return err
		}
	}
	b, err := proto.Marshal(p)
	if err != nil {
		return err
	}
	return s.Write(ctx, websocket.MessageBinary, b)
}

// hear reads the next message.
func (s *socket) hear(ctx context.Context) (*roomspb.Payload, error) {
	_, b, err := s.Read(ctx)
	if err != nil {
		return nil, err
	}
	p := new(roomspb.Payload)
	if err := proto.Unmarshal(b, p); err != nil {
		return nil, err
	}
	if p.Flag == roomspb.FlagType_RESPONSE_ASSIGN_HOST {
		s.hostings++
	}
	return p, nil
}

// answered reads until one of these comes.
func (s *socket) answered(ctx context.Context, flags ...roomspb.FlagType) (*roomspb.Payload, error) {
	for {
		p, err := s.hear(ctx)
		if err != nil {
			return nil, err
		}
		for _, flag := range flags {
			if p.Flag == flag {
				return p, nil
			}
		}
	}
}

// refusal is an error answer.
type refusal struct {
	Code    int32
	Message string
}

func (r refusal) Error() string { return fmt.Sprintf("%d %s", r.Code, r.Message) }

// enter asks to be in a room, anew or again; an error answer is a refusal.
func (s *socket) enter(ctx context.Context, flag roomspb.FlagType, data proto.Message) (*roomspb.Client, error) {
	if err := s.ask(ctx, flag, data); err != nil {
		return nil, err
	}
	p, err := s.answered(ctx, roomspb.FlagType_RESPONSE_CONNECT, roomspb.FlagType_RESPONSE_ERROR)
	if err != nil {
		return nil, err
	}
	if p.Flag == roomspb.FlagType_RESPONSE_ERROR {
		e := new(roomspb.Error)
		if err := proto.Unmarshal(p.Data, e); err != nil {
			return nil, err
		}
		return nil, refusal{e.Code, e.Message}
	}
	who := new(roomspb.Client)
	return who, proto.Unmarshal(p.Data, who)
}

// list asks who is connected.
func (s *socket) list(ctx context.Context) (*roomspb.ClientList, error) {
	if err := s.ask(ctx, roomspb.FlagType_REQUEST_LIST, nil); err != nil {
		return nil, err
	}
	p, err := s.answered(ctx, roomspb.FlagType_RESPONSE_LIST)
	if err != nil {
		return nil, err
	}
	list := new(roomspb.ClientList)
	return list, proto.Unmarshal(p.Data, list)
}
