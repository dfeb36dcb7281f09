package openid

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// answerTimeout bounds the wait for one answer of the issuer, its body included.
	answerTimeout = 5 * time.Second
	// maxAnswer is the longest body of an answer of the issuer, in bytes, and
	// maxAnswerHeader the longest header.
	maxAnswer       = 1 << 20
	maxAnswerHeader = 64 << 10
)

// errAnswerTooLong means that the issuer has sent more than maxAnswer bytes.
var errAnswerTooLong = errors.New("the issuer's answer is too long")

// newHTTP returns the client that speaks to the issuer. It follows no redirect: to
// wherever one leads, the secret or a token would go too.
func newHTTP(transport http.RoundTripper) *http.Client {
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DisableKeepAlives = true // sign-ins are rare, and so nothing has to be closed
		t.MaxResponseHeaderBytes = maxAnswerHeader
		transport = t
	}
	return &http.Client{
		Transport:     bounded{transport},
		Timeout:       answerTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded is a transport whose answers have a bound.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = &boundedBody{answer.Body, maxAnswer}
	return answer, nil
}

// boundedBody is a body that fails after so many bytes.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one more, to see whether there is one
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%w: more than %d bytes", errAnswerTooLong, maxAnswer)
	}
	return n, err
}
