package wsclient

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Dialer opens connections. Fixed before its first use; then any number of
// goroutines may dial at once.
type Dialer struct {
	// Timeout bounds the whole of Dial. 0 leaves that to the context.
	Timeout time.Duration
	// TLS is used for secure targets; nil is the default configuration.
	TLS *tls.Config
	// ReadBuffer is the first size of a connection's read buffer, which grows
	// as needed. At least minReadBuffer is taken.
	ReadBuffer int
	// MaxMessage bounds a message from the server; 0 is DefaultMaxMessage.
	MaxMessage int
	// Watched has Conn.Quiet tell the truth of connections without TLS, which makes
	// reading a little slower.
	Watched bool
}

const (
	// DefaultMaxMessage is the longest message that a connection takes when
	// its dialer does not say.
	DefaultMaxMessage = 16 << 20

	minReadBuffer = 512
	// maxResponseHead bounds the head of the server's answer.
	maxResponseHead = 16 << 10
)

// Timing tells how long the steps of Dial took.
type Timing struct {
	Connect time.Duration // until the TCP connection stood
	TLS     time.Duration // the TLS handshake; 0 without one
	Upgrade time.Duration // from the request to the end of the answer's head
}

// Dial connects to t and does the WebSocket handshake. local is the source
// address, nil for any. It blocks until the server has answered, the timeout
// is over or ctx is done. A refusal is a *HandshakeError.
func (d *Dialer) Dial(ctx context.Context, t Target, local net.IP) (*Conn, Timing, error) {
	var timing Timing
	if d.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Timeout)
		defer cancel()
	}
	nd := net.Dialer{KeepAlive: -1}
	if local != nil {
		nd.LocalAddr = &net.TCPAddr{IP: local}
		nd.Control = bindWithoutPort
	}
	start := time.Now()
	nc, err := nd.DialContext(ctx, "tcp", t.Addr)
	timing.Connect = time.Since(start)
	if err != nil {
		return nil, timing, err
	}
	if t.Secure {
		config := d.TLS
		if config == nil {
			config = new(tls.Config)
		}
		if config.ServerName == "" {
			config = config.Clone()
			config.ServerName, _, _ = net.SplitHostPort(t.Addr)
		}
		start = time.Now()
		secure := tls.Client(nc, config)
		err = secure.HandshakeContext(ctx)
		timing.TLS = time.Since(start)
		if err != nil {
			nc.Close()
			return nil, timing, fmt.Errorf("TLS: %w", err)
		}
		nc = secure
	}
	start = time.Now()
	var seen *watched
	if d.Watched {
		if seen = watch(nc); seen != nil {
			nc = seen
		}
	}
	c := newConn(nc, d.ReadBuffer, d.MaxMessage)
	c.watch = seen
	// The deadline ends a read that hangs, and so does ctx by an early one.
	if deadline, ok := ctx.Deadline(); ok {
		_ = nc.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	err = c.handshake(t)
	timing.Upgrade = time.Since(start)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// The socket's deadline is the context's, and may fire first.
			err = fmt.Errorf("handshake: %w", cmp.Or(ctx.Err(), context.DeadlineExceeded))
		}
		return nil, timing, err
	}
	_ = nc.SetDeadline(time.Time{})
	return c, timing, nil
}

// acceptSuffix is appended to the key before hashing (RFC 6455, 1.3).
const acceptSuffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + acceptSuffix))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// handshake asks for the upgrade and reads the answer. What follows the
// answer's head stays in the read buffer: a server may greet at once.
func (c *Conn) handshake(t Target) error {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	request := "GET " + t.Path + " HTTP/1.1\r\nHost: " + t.Host +
		"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
		key + "\r\n"
	if t.Cookie != "" {
		request += "Cookie: " + t.Cookie + "\r\n"
	}
	if _, err := io.WriteString(c.nc, request+"\r\n"); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	head, err := c.readHead()
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	return checkResponse(head, c.buf[c.r:c.w], acceptKey(key))
}

var endOfHead = []byte("\r\n\r\n")

// readHead returns the answer's head without the empty line, valid until the
// next read.
func (c *Conn) readHead() (string, error) {
	searched := 0
	for {
		if i := bytes.Index(c.buf[searched:c.w], endOfHead); i >= 0 {
			head := string(c.buf[:searched+i])
			c.r = searched + i + len(endOfHead)
			return head, nil
		}
		searched = max(c.w-len(endOfHead)+1, 0)
		if c.w >= maxResponseHead {
			return "", &HandshakeError{Reason: "the answer's head is too long"}
		}
		if err := c.fill(c.w + 1); err != nil {
			if c.w > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
	}
}

// checkResponse judges the head of the answer; body is what has been read of
// the rest, for the reason of a refusal.
func checkResponse(head string, body []byte, accept string) error {
	status, fields, _ := strings.Cut(head, "\r\n")
	code, ok := parseStatus(status)
	if !ok {
		return &HandshakeError{Reason: fmt.Sprintf("the answer is no HTTP/1.1: %.80q", status)}
	}
	var upgrade, connection, gotAccept, extensions, protocol, retry string
	for line := range strings.SplitSeq(fields, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "upgrade":
			upgrade = value
		case "connection":
			connection += "," + value
		case "sec-websocket-accept":
			gotAccept = value
		case "sec-websocket-extensions":
			extensions = value
		case "sec-websocket-protocol":
			protocol = value
		case "retry-after":
			retry = value
		}
	}
	refuse := func(format string, args ...any) error {
		return &HandshakeError{Status: code, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case code != 101:
		seconds, _ := strconv.Atoi(retry)
		text, _, _ := strings.Cut(strings.TrimSpace(string(body[:min(len(body), 120)])), "\n")
		if text == "" {
			_, text, _ = strings.Cut(status, " ")
		}
		return &HandshakeError{Status: code, RetryAfter: time.Duration(seconds) * time.Second, Reason: text}
	case !strings.EqualFold(upgrade, "websocket"):
		return refuse("the answer upgrades to %q, not to websocket", upgrade)
	case !hasToken(connection, "upgrade"):
		return refuse("the answer's Connection header is without Upgrade")
	case gotAccept != accept:
		return refuse("the answer's Sec-WebSocket-Accept does not fit the key")
	case extensions != "":
		return refuse("the server chose an extension that was not offered: %s", extensions)
	case protocol != "":
		return refuse("the server chose a subprotocol that was not offered: %s", protocol)
	}
	return nil
}

func parseStatus(line string) (code int, ok bool) {
	rest, ok := strings.CutPrefix(line, "HTTP/1.1 ")
	if !ok || len(rest) < 3 {
		return 0, false
	}
	code, err := strconv.Atoi(rest[:3])
	return code, err == nil && code >= 100
}

func hasToken(list, token string) bool {
	for t := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(t), token) {
			return true
		}
	}
	return false
}
