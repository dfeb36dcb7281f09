package openid

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

const (
	// metadataLife is how long what the issuer says of itself is taken as it was. Its keys
	// are asked for anew whenever a token bears one that is not known.
	metadataLife = time.Hour
	// metadataRetry is how long after a vain attempt the issuer is not asked again.
	metadataRetry = time.Second
)

var (
	// errIssuerAway means that the issuer does not answer, or not with what it should.
	errIssuerAway = errors.New("the issuer does not answer")
	// errMetadata means that what the issuer says of itself cannot be used.
	errMetadata = errors.New("the issuer's configuration cannot be used")
)

// issuer is the issuer as this node knows it.
type issuer struct {
	// Fixed after newIssuer.
	client Client
	http   *http.Client

	post atomic.Bool // it wants the secret in the body, against what it says

	mu     sync.Mutex
	known  *provider     // nil: not yet
	err    error         // why the last look failed; nil if it has not
	next   time.Time     // when to look again
	flight chan struct{} // closed when the look that is under way ends; nil: there is none
}

// provider is what the issuer says of itself.
type provider struct {
	*oidc.Provider
	verifier *oidc.IDTokenVerifier
	// basic and post tell where it takes a client's secret.
	basic, post bool
	namesItself bool // in every answer to the browser (RFC 9207)
}

func newIssuer(c Client, transport http.RoundTripper) *issuer {
	return &issuer{client: c, http: newHTTP(transport)}
}

// context is one in which the libraries ask by the issuer's HTTP client.
func (i *issuer) context(ctx context.Context) context.Context { return oidc.ClientContext(ctx, i.http) }

// provider returns what the issuer says of itself. It waits for the issuer, for
// answerTimeout at most, where nothing is known yet; what is old is replaced by whoever
// finds it so, and the others go on with it. Errors wrap errIssuerAway or errMetadata.
func (i *issuer) provider(ctx context.Context) (*provider, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if flight := i.flight; flight != nil && i.known == nil {
		i.mu.Unlock()
		select {
		case <-flight:
		case <-ctx.Done():
		}
		i.mu.Lock()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", errIssuerAway, ctx.Err())
		}
	} else if flight == nil && !time.Now().Before(i.next) {
		i.lookNow(ctx)
	}
	if i.known == nil {
		return nil, i.err
	}
	return i.known, nil
}

// lookNow has this caller look, while others go on. It is called with mu held, and lets
// go of it meanwhile.
func (i *issuer) lookNow(ctx context.Context) {
	flight := make(chan struct{})
	i.flight = flight
	i.mu.Unlock()
	found, err := (*provider)(nil), fmt.Errorf("%w: the look has not ended", errIssuerAway)
	defer func() { // also when it panics
		i.mu.Lock()
		i.flight, i.err, i.next = nil, err, time.Now().Add(metadataRetry)
		if err == nil {
			i.known, i.next = found, time.Now().Add(metadataLife)
		}
		close(flight)
	}()
	found, err = i.look(context.WithoutCancel(ctx)) // others wait for it, whether this client does or not
}

// look asks the issuer. Discovery refuses one that has another name than it should.
func (i *issuer) look(ctx context.Context) (*provider, error) {
	found, err := oidc.NewProvider(i.context(ctx), i.client.Issuer)
	if err != nil {
		var other *oidc.IssuerMismatchError
		if errors.As(err, &other) {
			return nil, fmt.Errorf("%w: it calls itself %.100q, and --oidc-issuer is %q", errMetadata, other.Discovered, other.Provided)
		}
		return nil, fmt.Errorf("%w: %w", errIssuerAway, err)
	}
	var more struct {
		JWKS        string   `json:"jwks_uri"`
		AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
		NamesItself bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if err := found.Claims(&more); err != nil {
		return nil, fmt.Errorf("%w: %w", errMetadata, err)
	}
	for name, endpoint := range map[string]string{
		"authorization_endpoint": found.Endpoint().AuthURL,
		"token_endpoint":         found.Endpoint().TokenURL,
		"jwks_uri":               more.JWKS,
		"userinfo_endpoint":      found.UserInfoEndpoint(),
	} {
		if endpoint == "" && name == "userinfo_endpoint" { // it need not have one
			continue
		}
		if !i.mayName(endpoint) {
			return nil, fmt.Errorf("%w: its %s is %.200q", errMetadata, name, endpoint)
		}
	}
	p := &provider{Provider: found, verifier: found.Verifier(&oidc.Config{ClientID: i.client.ID}), namesItself: more.NamesItself}
	p.basic = len(more.AuthMethods) == 0 || slices.Contains(more.AuthMethods, "client_secret_basic")
	p.post = slices.Contains(more.AuthMethods, "client_secret_post")
	if i.client.Secret != "" && !p.basic && !p.post {
		return nil, fmt.Errorf("%w: it takes a client's secret neither by client_secret_basic nor by client_secret_post", errMetadata)
	}
	return p, nil
}

// mayName tells whether something may be sent to an endpoint: an issuer that is reached
// by https has no business with one that is not.
func (i *issuer) mayName(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || !protected(u) {
		return false
	}
	issuer, err := url.Parse(i.client.Issuer)
	return err == nil && (u.Scheme == "https" || issuer.Scheme == "http")
}

// oauth is the fleet as the OAuth library sees it.
func (i *issuer) oauth(p *provider, redirectURI string, post bool) *oauth2.Config {
	c := &oauth2.Config{ClientID: i.client.ID, ClientSecret: i.client.Secret, Endpoint: p.Endpoint(), RedirectURL: redirectURI, Scopes: i.client.Scopes}
	c.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if post {
		c.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return c
}

// exchange gives a code for tokens. Where the secret goes is told by the issuer, for all
// of its clients: if it takes it in two ways, and does not know this client by one, the other is
// tried, which costs no code, and remembered.
func (i *issuer) exchange(ctx context.Context, p *provider, code string, a attempt) (*oauth2.Token, error) {
	post := !p.basic || i.client.Secret == "" || p.post && i.post.Load()
	try := func(post bool) (*oauth2.Token, error) {
		return i.oauth(p, a.RedirectURI, post).Exchange(i.context(ctx), code, oauth2.VerifierOption(a.Verifier))
	}
	token, err := try(post)
	if i.client.Secret == "" || !p.basic || !p.post || !unknownClient(err) {
		return token, err
	}
	token, err = try(!post)
	if err == nil {
		i.post.Store(!post)
	}
	return token, err
}

// unknownClient tells whether the issuer has refused the client, and not the code.
func unknownClient(err error) bool {
	var refused *oauth2.RetrieveError
	return errors.As(err, &refused) &&
		(refused.ErrorCode == "invalid_client" || refused.ErrorCode == "" && refused.Response != nil && refused.Response.StatusCode == http.StatusUnauthorized)
}
