// Package oidctest runs an OpenID Connect issuer as a child process, and a browser that
// signs in at it, for tests. Both are Node.js programs in the directory server, which
// make setup prepares.
package oidctest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"parley/pkg/childproc"
)

const (
	// patience is how long the issuer may take to start, on a machine that has other
	// things to do.
	patience = 60 * time.Second
	// tick is the pause between two looks at what it says.
	tick = 10 * time.Millisecond
)

// ErrNotPrepared means that what the programs need is not installed.
var ErrNotPrepared = errors.New("the issuer for tests has not been set up: run make setup (npm ci in pkg/account/openid/oidctest/server)")

// Options say what the issuer is to be like.
type Options struct {
	Dir string // where the programs are: the directory server of this package

	ID           string // of the fleet; it may come back to /auth/callback on any loopback port
	Secret       string // empty: none
	Auth         string // client_secret_basic, client_secret_post or none
	Algorithm    string // of its ID tokens: RS256, ES256 or EdDSA
	EmailInToken bool   // else its userinfo endpoint tells it
}

// Issuer is one that runs. It lets everybody in under the name that he types, and tells of him
// the email NAME@example.com; the one called nomail has none.
type Issuer struct {
	URL   string
	child *childproc.Child
	log   childproc.Log
}

// Start runs an issuer, and returns when it answers. End it with Close.
func Start(o Options) (*Issuer, error) {
	if err := prepared(o.Dir); err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{"id": o.ID, "secret": o.Secret, "auth": o.Auth, "algorithm": o.Algorithm, "emailInToken": o.EmailInToken})
	if err != nil {
		return nil, err
	}
	i := new(Issuer)
	if i.child, err = childproc.Launch("node", []string{filepath.Join(o.Dir, "issuer.mjs"), string(config)}, &i.log); err != nil {
		return nil, fmt.Errorf("node: %w (apt-get install nodejs)", err)
	}
	for deadline := time.Now().Add(patience); i.URL == ""; {
		for line := range strings.Lines(i.Log()) {
			if url, found := strings.CutPrefix(line, "LISTENING "); found && strings.HasSuffix(url, "\n") {
				i.URL = strings.TrimSpace(url)
			}
		}
		select {
		case <-i.child.Exited:
			return nil, fmt.Errorf("the issuer has ended:\n%s", i.Log())
		case <-time.After(tick):
		}
		if i.URL == "" && time.Now().After(deadline) {
			i.Close()
			return nil, fmt.Errorf("the issuer does not start:\n%s", i.Log())
		}
	}
	return i, nil
}

// Log is what the issuer has said.
func (i *Issuer) Log() string { return i.log.Since(0) }

// Close ends the issuer.
func (i *Issuer) Close() {
	_ = i.child.Process.Kill() // it may have ended
	<-i.child.Exited
}

// Browse runs a program of the directory in Node.js, and returns what it has said. An
// error says what went wrong in it.
func Browse(ctx context.Context, dir, program string, args ...string) (string, error) {
	if err := prepared(dir); err != nil {
		return "", err
	}
	said, err := exec.CommandContext(ctx, "node", append([]string{filepath.Join(dir, program)}, args...)...).CombinedOutput()
	if err != nil {
		return string(said), fmt.Errorf("%s: %w", program, err)
	}
	return string(said), nil
}

func prepared(dir string) error {
	for _, module := range []string{"oidc-provider", "playwright-core"} {
		if _, err := os.Stat(filepath.Join(dir, "node_modules", module)); err != nil {
			return fmt.Errorf("%w: %w", ErrNotPrepared, err)
		}
	}
	return nil
}
