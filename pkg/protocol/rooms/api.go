package rooms

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"parley/pkg/relay"
	"parley/pkg/web"
)

const (
	// maxAPIBody bounds the body of a request, in bytes.
	maxAPIBody = 4 << 10
	// retryAPI is after how many seconds a client is to try again when Redis is away.
	retryAPI = 1
	// statusRunning is the status of every room that is shown. A room closes in one
	// step, after which it is not there any more: none is ever seen closing.
	statusRunning = "RUNNING"
)

// APIConfig holds what the HTTP half of the protocol works with.
type APIConfig struct {
	Rooms relay.Rooms
	// Token is what every request has to bear; "": anybody may manage rooms.
	Token   string
	Origins web.Origins // whose pages may
	Proxies web.Proxies
	Log     *slog.Logger
}

// API is the HTTP half of the protocol: it makes, shows and ends rooms. It is not changed
// after NewAPI and may be used by any number of goroutines. No request waits for longer
// than its Rooms do.
//
//	POST   /v1/api/rooms       makes a room as {"max_clients": n} asks; its Info
//	GET    /v1/api/rooms       a list of all Infos, ordered by their ids
//	GET    /v1/api/rooms/{id}  the Info of a room
//	DELETE /v1/api/rooms/{id}  ends a room; no data
//	GET    /v1/api/summary     a Summary
//
// Every answer is JSON, with the status in it too: {"code": 200, "data": ...} when the
// request was carried out, {"message": "...", "code": 400} when it was not: 400 also when
// the fleet has no place for the room, 404 when there is no such room or path. With a token
// set, requests without "Authorization: Bearer <token>" are answered with 401. Redis being
// away is 503 with Retry-After; whether a room was made or closed is not known then.
//
// Pages of origins that Origins allows may use all of it. Those of others may not read
// the answers, and get 403 to what would change something.
type API struct {
	cfg   APIConfig
	token [sha256.Size]byte // of the header that is wanted
}

// NewAPI returns the HTTP half, to be mounted at /v1/. It answers all of what is below
// that, with 404 where there is nothing.
func NewAPI(cfg APIConfig) *API {
	return &API{cfg: cfg, token: sha256.Sum256([]byte(cfg.Token))}
}

// apiRoute is one kind of request.
type apiRoute struct {
	method string
	path   string // {id} stands for one segment
	handle func(a *API, w http.ResponseWriter, r *http.Request, id string) (data any, err error)
}

// apiRoutes are all there are.
var apiRoutes = []apiRoute{
	{http.MethodGet, "/v1/api/rooms", (*API).list},
	{http.MethodPost, "/v1/api/rooms", (*API).create},
	{http.MethodGet, "/v1/api/rooms/{id}", (*API).show},
	{http.MethodDelete, "/v1/api/rooms/{id}", (*API).end},
	{http.MethodGet, "/v1/api/summary", (*API).summary},
}

// SocketPath is where the WebSocket is mounted. What comes there with another method than
// GET is for the API to refuse.
const SocketPath = "/v1/websocket"

// Routes are the requests that are answered with something else than 404 or 405, as
// "METHOD /path". HEAD is understood where GET is.
func (a *API) Routes() []string {
	var all []string
	for _, route := range apiRoutes {
		all = append(all, route.method+" "+route.path)
	}
	return all
}

// match returns the id in a path; ok is false when the route is for other paths.
func (route *apiRoute) match(path string) (id string, ok bool) {
	before, ok := strings.CutSuffix(route.path, "{id}")
	if !ok {
		return "", path == route.path
	}
	id, ok = strings.CutPrefix(path, before)
	return id, ok && id != "" && !strings.Contains(id, "/")
}

// Info is a room as the API shows it.
type Info struct {
	ID             int32  `json:"id"`
	Secret         int32  `json:"secret"` // who knows it may join
	MaxClients     int32  `json:"max_clients"`
	CurrentClients int32  `json:"current_clients"`
	RoomStatus     string `json:"room_status"` // always RUNNING
}

func infoOf(r relay.Room) Info {
	return Info{ID: r.ID, Secret: r.Secret, MaxClients: r.MaxClients, CurrentClients: r.Clients, RoomStatus: statusRunning}
}

// Summary is the sums over all rooms of the fleet.
type Summary struct {
	NumberOfRooms    int64 `json:"number_of_rooms"`
	MaxClients       int64 `json:"max_clients"` // that may be committed
	CurrentClients   int64 `json:"current_clients"`
	CommittedClients int64 `json:"committed_clients"` // see relay.Committed
}

// create answers POST /v1/api/rooms, whose body is {"max_clients": n}, with the Info of a
// new room for n clients. 400 if the body is anything else, n is no whole number from 1 to
// relay.MaxRoomClients, or the fleet has no place for so many more.
func (a *API) create(w http.ResponseWriter, r *http.Request, _ string) (any, error) {
	var body struct {
		MaxClients *int32 `json:"max_clients"`
	}
	if err := web.ReadUntypedJSON(w, r, maxAPIBody, &body); err != nil {
		return nil, err
	}
	if *body.MaxClients < 1 || *body.MaxClients > relay.MaxRoomClients {
		return nil, errAPIMaxClients
	}
	room, err := a.cfg.Rooms.Create(r.Context(), *body.MaxClients)
	return infoOf(room), err
}

// list answers GET /v1/api/rooms with an Info of each room, ordered by their ids.
func (a *API) list(_ http.ResponseWriter, r *http.Request, _ string) (any, error) {
	all, err := a.cfg.Rooms.List(r.Context())
	infos := make([]Info, len(all)) // never null
	for i, room := range all {
		infos[i] = infoOf(room)
	}
	return infos, err
}

// show answers GET /v1/api/rooms/{id} with the room's Info. 400 if the id is no 32-bit
// integer, 404 if no room has it.
func (a *API) show(_ http.ResponseWriter, r *http.Request, id string) (any, error) {
	n, err := parseRoomID(id)
	if err != nil {
		return nil, err
	}
	room, err := a.cfg.Rooms.Room(r.Context(), n)
	return infoOf(room), err
}

// end answers DELETE /v1/api/rooms/{id}, without data, when the room is no more: nobody
// can join it, and its clients are being disconnected on all nodes. Errors are those of
// show.
func (a *API) end(_ http.ResponseWriter, r *http.Request, id string) (any, error) {
	n, err := parseRoomID(id)
	if err != nil {
		return nil, err
	}
	return nil, a.cfg.Rooms.Close(r.Context(), n)
}

// summary answers GET /v1/api/summary with a Summary.
func (a *API) summary(_ http.ResponseWriter, r *http.Request, _ string) (any, error) {
	t, err := a.cfg.Rooms.Totals(r.Context())
	return Summary{NumberOfRooms: t.Rooms, MaxClients: t.Max, CurrentClients: t.Clients, CommittedClients: t.Committed}, err
}

func parseRoomID(s string) (int32, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, errAPIRoomID
	}
	return int32(n), nil
}

// apiError is a failure as the client is told.
type apiError struct {
	Message string `json:"message"`
	Status  int    `json:"code"`
}

func (e *apiError) Error() string { return e.Message }

var (
	errAPINotFound   = &apiError{"there is nothing here", http.StatusNotFound}
	errAPIMethod     = &apiError{"this method is not allowed here; see Allow", http.StatusMethodNotAllowed}
	errAPIOrigin     = &apiError{"a page of another site may not do this (--allowed-origins)", http.StatusForbidden}
	errAPIToken      = &apiError{"rooms are managed with a token: Authorization: Bearer ... (--rooms-api-token)", http.StatusUnauthorized}
	errAPIRoomID     = &apiError{"the id of a room is a 32-bit integer", http.StatusBadRequest}
	errAPIMaxClients = &apiError{fmt.Sprintf(`"max_clients" is not from 1 to %d`, relay.MaxRoomClients), http.StatusBadRequest}
	errAPIRoomsFull  = &apiError{"all rooms together may not be for so many clients (--rooms-max-clients); see /v1/api/summary", http.StatusBadRequest}
	errAPINoRoom     = &apiError{"there is no such room", http.StatusNotFound}
	errAPIAway       = &apiError{"that could not be done right now, or is not known to have been done: try again", http.StatusServiceUnavailable}
	errAPIInternal   = &apiError{"internal error", http.StatusInternalServerError}
)

// apiErrorOf is how a client is told of an error.
func apiErrorOf(err error) *apiError {
	var told *apiError
	var field *web.FieldError
	switch {
	case errors.As(err, &told):
		return told
	case errors.As(err, &field):
		return &apiError{field.Error(), http.StatusBadRequest}
	case errors.Is(err, relay.ErrRoomsFull):
		return errAPIRoomsFull
	case errors.Is(err, relay.ErrNoRoom):
		return errAPINoRoom
	case errors.Is(err, relay.ErrUnavailable), errors.Is(err, relay.ErrClosed):
		return errAPIAway
	}
	for _, broken := range []error{web.ErrTooLong, web.ErrCutOff, web.ErrNotJSON} {
		if errors.Is(err, broken) {
			return &apiError{broken.Error(), http.StatusBadRequest}
		}
	}
	return errAPIInternal
}

// ServeHTTP answers one request. What is wrong with its path or method is told before a
// token is asked for, since that is no secret; what is wrong with the rest is told after.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer a.recovered(w, r)
	a.cfg.Origins.Expose(w, r)
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet // the server leaves the body out
	}
	var do *apiRoute
	var id string
	var allowed []string
	if r.URL.Path == SocketPath {
		allowed = append(allowed, http.MethodGet)
	}
	for i := range apiRoutes {
		route := &apiRoutes[i]
		found, ok := route.match(r.URL.Path)
		if !ok {
			continue
		}
		allowed = append(allowed, route.method)
		if route.method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
		if route.method == method {
			do, id = route, found
		}
	}
	slices.Sort(allowed)
	switch {
	case len(allowed) == 0:
		a.refuse(w, r, errAPINotFound)
	case web.Preflight(r):
		if err := a.cfg.Origins.AnswerPreflight(w, r, allowed...); err != nil {
			a.refuse(w, r, errors.Join(errAPIOrigin, err))
		}
	case do == nil:
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		a.refuse(w, r, errAPIMethod)
	default:
		a.serve(w, r, do, id)
	}
}

// serve answers a request of a route, if its sender may send it.
func (a *API) serve(w http.ResponseWriter, r *http.Request, route *apiRoute, id string) {
	if err := a.cfg.Origins.Check(r); err != nil && route.method != http.MethodGet {
		a.refuse(w, r, errors.Join(errAPIOrigin, err))
		return
	}
	if challenge := a.challenge(r); challenge != "" {
		w.Header().Set("WWW-Authenticate", challenge)
		a.refuse(w, r, errAPIToken)
		return
	}
	data, err := route.handle(a, w, r, id)
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	web.WriteJSON(w, http.StatusOK, struct {
		Code int `json:"code"`
		Data any `json:"data,omitempty"`
	}{http.StatusOK, data})
}

// challenge is "" if the request bears the token, or none is wanted, else what the client
// is to be asked for (RFC 6750). How long the comparison takes tells nothing of the token.
func (a *API) challenge(r *http.Request) string {
	if a.cfg.Token == "" {
		return ""
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return `Bearer realm="rooms"`
	}
	given := sha256.Sum256([]byte(strings.TrimSpace(token)))
	if subtle.ConstantTimeCompare(given[:], a.token[:]) != 1 {
		return `Bearer realm="rooms", error="invalid_token"`
	}
	return ""
}

// refuse answers with an error, and logs it.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	told := apiErrorOf(err)
	about := []any{"protocol", "rooms", "method", r.Method, "path", r.URL.Path, "client", a.cfg.Proxies.Client(r), "status", told.Status}
	switch {
	case told.Status == http.StatusInternalServerError:
		a.cfg.Log.Error("request failed", append(about, "error", err)...)
	case told.Status == http.StatusServiceUnavailable && r.Context().Err() == nil:
		a.cfg.Log.Warn("request failed", append(about, "error", err)...)
	default:
		a.cfg.Log.Debug("request refused", append(about, "error", err)...)
	}
	if told.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAPI))
	}
	web.WriteJSON(w, told.Status, told)
}

// recovered answers a request whose handling has panicked.
func (a *API) recovered(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // it is panicked with as it is
		panic(p)
	}
	a.refuse(w, r, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
}
