package rooms

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"parley/pkg/relay"
	"parley/pkg/web"
)

// memoryRooms is the rooms of a fleet without clients, in memory. Ids count up from 1.
type memoryRooms struct {
	mu     sync.Mutex
	max    int64
	last   int32
	rooms  map[int32]relay.Room
	err    error // which every call ends with, if set
	panics any   // which every call panics with, if set
	calls  int
}

func (m *memoryRooms) called() error {
	m.calls++
	if m.panics != nil {
		panic(m.panics)
	}
	return m.err
}

func (m *memoryRooms) Create(_ context.Context, maxClients int32) (relay.Room, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.called(); err != nil {
		return relay.Room{}, err
	}
	if m.totals().Committed+relay.Committed(maxClients) > m.max {
		return relay.Room{}, fmt.Errorf("creating: %w", relay.ErrRoomsFull)
	}
	if m.rooms == nil {
		m.rooms = map[int32]relay.Room{}
	}
	m.last++
	m.rooms[m.last] = relay.Room{ID: m.last, Secret: 1000 + m.last, MaxClients: maxClients}
	return m.rooms[m.last], nil
}

func (m *memoryRooms) Room(_ context.Context, id int32) (relay.Room, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.called(); err != nil {
		return relay.Room{}, err
	}
	r, ok := m.rooms[id]
	if !ok {
		return r, fmt.Errorf("looking: %w", relay.ErrNoRoom)
	}
	return r, nil
}

func (m *memoryRooms) List(context.Context) ([]relay.Room, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.called(); err != nil {
		return nil, err
	}
	var all []relay.Room
	for _, id := range slices.Sorted(maps.Keys(m.rooms)) {
		all = append(all, m.rooms[id])
	}
	return all, nil
}

func (m *memoryRooms) Close(_ context.Context, id int32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.called(); err != nil {
		return err
	}
	if _, ok := m.rooms[id]; !ok {
		return fmt.Errorf("closing: %w", relay.ErrNoRoom)
	}
	delete(m.rooms, id)
	return nil
}

func (m *memoryRooms) Totals(context.Context) (relay.RoomTotals, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.totals(), m.called()
}

func (m *memoryRooms) totals() relay.RoomTotals {
	t := relay.RoomTotals{Max: m.max, Rooms: int64(len(m.rooms))}
	for _, r := range m.rooms {
		t.Clients += int64(r.Clients)
		t.Committed += relay.Committed(r.MaxClients)
	}
	return t
}

// apiTest is an API on rooms in memory, for 100 clients.
type apiTest struct {
	rooms memoryRooms
	log   bytes.Buffer
	*API
}

func newAPITest(t *testing.T, token, origins string) *apiTest {
	t.Helper()
	o, err := web.ParseOrigins(origins)
	if err != nil {
		t.Fatal(err)
	}
	a := &apiTest{rooms: memoryRooms{max: 100}}
	a.API = NewAPI(APIConfig{Rooms: &a.rooms, Token: token, Origins: o, Log: slog.New(slog.NewTextHandler(&a.log, nil))})
	return a
}

// ask sends a request with headers as name and value.
func (a *apiTest) ask(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://relay.example"+target, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w
}

// checkAPI fails the test if an answer does not have this status, in its body too, or this
// data as JSON ("": none).
func checkAPI(t *testing.T, what string, w *httptest.ResponseRecorder, status int, data string) {
	t.Helper()
	want := fmt.Sprintf(`{"code":%d}`, status)
	if data != "" {
		want = fmt.Sprintf(`{"code":%d,"data":%s}`, status, data)
	}
	if got := strings.TrimSuffix(w.Body.String(), "\n"); w.Code != status || got != want {
		t.Errorf("%s: %d %s, want %d %s", what, w.Code, got, status, want)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("%s: Content-Type is %q", what, got)
	}
}

// checkAPIFailure fails the test if an answer is not a failure with this status, in the
// usual form, whose message has the words.
func checkAPIFailure(t *testing.T, what string, w *httptest.ResponseRecorder, status int, words string) {
	t.Helper()
	var told map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil {
		t.Errorf("%s: %d %q: %v", what, w.Code, w.Body, err)
		return
	}
	message, _ := told["message"].(string)
	if w.Code != status || len(told) != 2 || told["code"] != float64(status) || message == "" || !strings.Contains(message, words) {
		t.Errorf("%s: %d %s, want %d with a message that has %q", what, w.Code, w.Body, status, words)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("%s: Content-Type is %q", what, got)
	}
}
