package sqlstore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestURL(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]address{
		"mysql://parley:secret@db.example:3307/chat": {host: "db.example:3307", user: "parley", password: "secret", database: "chat"},
		"mysql://parley:secret@db.example/chat":      {host: "db.example:3306", user: "parley", password: "secret", database: "chat"},
		"mysql://parley@db/chat":                     {host: "db:3306", user: "parley", database: "chat"},
		"mysql://parley:@db/chat":                    {host: "db:3306", user: "parley", database: "chat"},
		"mysql://p%40r:s%3A%2F%3F%23%40%25@db/chat":  {host: "db:3306", user: "p@r", password: "s:/?#@%", database: "chat"},
		"mysql://parley:secret@[::1]:1/chat":         {host: "[::1]:1", user: "parley", password: "secret", database: "chat"},
		"mysql://parley:secret@db:65535/ch%20at":     {host: "db:65535", user: "parley", password: "secret", database: "ch at"},
		"mysql://u@db/chat?tls=true":                 {host: "db:3306", user: "u", database: "chat", tls: "true"},
		"mysql://u@db/chat?tls=skip-verify":          {host: "db:3306", user: "u", database: "chat", tls: "skip-verify"},
		"mysql://u@db/chat?tls=preferred":            {host: "db:3306", user: "u", database: "chat", tls: "preferred"},
		"mysql://u@db/chat?tls=false":                {host: "db:3306", user: "u", database: "chat"},
		"mysql://u@db/" + strings.Repeat("x", 64):    {host: "db:3306", user: "u", database: strings.Repeat("x", 64)},
		"sqlite:/var/lib/parley/parley.db":           {path: "/var/lib/parley/parley.db"},
		"sqlite:///var/lib/parley/parley.db":         {path: "/var/lib/parley/parley.db"},
		"sqlite:data/a b?c=d.db":                     {path: filepath.Join(here, "data/a b?c=d.db")},
		"sqlite:parley.db":                           {path: filepath.Join(here, "parley.db")},
	} {
		if got, err := parseAddress(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
		if err := CheckURL(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What is wrong is named, and nothing of the URL is shown: a part of a password may
// be where it should not.
func TestWrongURL(t *testing.T) {
	for text, want := range map[string]string{
		"":                                            "want mysql://",
		"h7x9q":                                       "want mysql://",
		"postgres://u:h7x9q@db/chat":                  "want mysql://",
		"mysql:u:h7x9q@db/chat":                       "want mysql://",
		"MYSQL://u:h7x9q@db/chat":                     "want mysql://",
		"mysql://u:h7x9q@/chat":                       "want mysql://",
		"mysql://u:h7x9q@:3306/chat":                  "want mysql://",
		"mysql://u:h7x9q/more@db/chat":                "want mysql://",
		"mysql://u:h7x9q%zz@db/chat":                  "want mysql://",
		"mysql://u:h7x9q#@db/chat":                    "want mysql://",
		"mysql://u:h7x9q@db/chat#h7x9q":               "want mysql://",
		"mysql://u:h7x9q@db:0/chat":                   "the port",
		"mysql://u:h7x9q@db:65536/chat":               "the port",
		"mysql://:h7x9q@db/chat":                      "the user is missing",
		"mysql://db/chat?h7x9q":                       "the user is missing",
		"mysql://u:h7x9q@db":                          "the name of the database is missing",
		"mysql://u:h7x9q@db/":                         "the name of the database is missing",
		"mysql://u:h7x9q@db/chat/h7x9q":               "no name of a database",
		"mysql://u@db/" + strings.Repeat("h7x9q", 13): "no name of a database",
		"mysql://u:h7x9q@db/chat?charset=h7x9q":       "only tls",
		"mysql://u:h7x9q@db/chat?h7x9q":               "only tls",
		"mysql://u:h7x9q@db/chat?tls=true&tls=true":   "only tls",
		"mysql://u:h7x9q@db/chat?tls=h7x9q":           "tls is one of",
		"mysql://u:h7x9q@db/chat?tls=":                "tls is one of",
		"mysql://u:h7x9q@db/chat?tls=%zz":             "want mysql://",
		"sqlite:":                                     "the path of the file is missing",
		"sqlite:h7x9q/":                               "the path of the file is missing",
		"sqlite://h7x9q/parley.db":                    "no slashes before the path",
		"sqlite::memory:":                             "a file is needed",
		"sqlite:h7x9q\x00":                            "a file is needed",
	} {
		err := CheckURL(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error = %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "h7x9q") {
			t.Errorf("%s: the error shows it: %v", text, err)
		}
	}
}

func TestDefaultPath(t *testing.T) {
	for _, c := range []struct{ data, want string }{
		{"/srv/data", "/srv/data/parley/parley.db"},
		{"", "/home/somebody/.local/share/parley/parley.db"},
		{"relative", "/home/somebody/.local/share/parley/parley.db"}, // as the XDG specification has it
	} {
		t.Setenv("HOME", "/home/somebody")
		t.Setenv("XDG_DATA_HOME", c.data)
		if got, err := DefaultPath(); err != nil || got != c.want {
			t.Errorf("with %q: %q, %v; want %q", c.data, got, err, c.want)
		}
	}
	t.Setenv("HOME", "")
	t.Setenv("XDG_DATA_HOME", "")
	if got, err := DefaultPath(); err == nil {
		t.Errorf("without a home: %q", got)
	}
}
