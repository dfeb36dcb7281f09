package sqlstore

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// defaultPort is MySQL's.
const defaultPort = "3306"

// maxDatabaseName is how long MySQL allows the name of a database to be, in
// characters.
const maxDatabaseName = 64

var errURL = errors.New("want mysql://user:password@host:port/database[?tls=true|skip-verify|preferred], " +
	"with what is special in the user and the password percent-encoded, or sqlite:path")

// address is where the database is, as a URL says it: either path is set, or all
// else but tls and password.
type address struct {
	path string // of the SQLite file

	host     string // host:port
	user     string
	password string
	database string
	tls      string // as the driver calls it; "" for none
}

// CheckURL tells whether Options.URL can be used. The error contains nothing of it,
// since it may hold a password.
func CheckURL(text string) error {
	_, err := parseAddress(text)
	return err
}

// parseAddress reads a URL. Its errors contain nothing of it.
func parseAddress(text string) (a address, err error) {
	if path, found := strings.CutPrefix(text, "sqlite:"); found {
		return parsePath(path)
	}
	if !strings.HasPrefix(text, "mysql://") {
		return a, errURL
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Fragment != "" {
		return a, errURL
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return a, fmt.Errorf("the port is no number from 1 to 65535: %w", errURL)
	}
	a.host = net.JoinHostPort(u.Hostname(), port)
	if a.user = u.User.Username(); a.user == "" {
		return a, fmt.Errorf("the user is missing: %w", errURL)
	}
	a.password, _ = u.User.Password()
	a.database = strings.TrimPrefix(u.Path, "/")
	switch {
	case a.database == "":
		return a, fmt.Errorf("the name of the database is missing: %w", errURL)
	case strings.Contains(a.database, "/") || len([]rune(a.database)) > maxDatabaseName:
		return a, fmt.Errorf("this is no name of a database: %w", errURL)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return a, errURL
	}
	for name, values := range query {
		if name != "tls" || len(values) != 1 {
			return a, fmt.Errorf("after the question mark only tls is understood, once: %w", errURL)
		}
		switch v := values[0]; v {
		case "true", "skip-verify", "preferred":
			a.tls = v
		case "false":
		default:
			return a, fmt.Errorf("tls is one of true, skip-verify, preferred, false: %w", errURL)
		}
	}
	return a, nil
}

func parsePath(path string) (a address, err error) {
	switch {
	case path == "" || strings.HasSuffix(path, string(filepath.Separator)):
		return a, fmt.Errorf("the path of the file is missing: %w", errURL)
	case strings.HasPrefix(path, "//") && !strings.HasPrefix(path, "///"):
		return a, fmt.Errorf("sqlite:path has no slashes before the path, or three: %w", errURL)
	case strings.HasPrefix(path, ":") || strings.ContainsRune(path, 0):
		return a, fmt.Errorf("a file is needed: %w", errURL)
	}
	a.path, err = filepath.Abs(path)
	return a, err
}

// DefaultPath is the SQLite file of a node that is told of no database: parley.db in
// the directory parley below $XDG_DATA_HOME, or below ~/.local/share when that is
// not set to an absolute path. An error means that the user has no home.
func DefaultPath() (string, error) {
	data := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(data) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no place for the database: %w", err)
		}
		data = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(data, "parley", "parley.db"), nil
}
