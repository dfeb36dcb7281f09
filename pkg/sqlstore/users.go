package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"parley/pkg/relay"
)

// maxNameBytes is how long usernames, emails and passwords in PHC form may be, in
// bytes; the columns have room for so much, and that of emails in lower case for the
// half more that the change of case may add. Who lets people choose them has
// narrower limits.
const maxNameBytes = 512

// Users implements relay.Users.
type Users struct{ s *Store }

var _ relay.Users = (*Users)(nil)

// Create implements relay.Users. After an error that wraps relay.ErrUnavailable the
// account may exist. A username, email or password of more than 512 bytes is an error
// of its own.
func (us *Users) Create(ctx context.Context, u relay.User, password string) (relay.User, error) {
	for _, field := range []struct{ name, text string }{{"username", u.Username}, {"email", u.Email}, {"password", password}} {
		if len(field.text) > maxNameBytes {
			return relay.User{}, fmt.Errorf("a %s of %d bytes, %d are the most", field.name, len(field.text), maxNameBytes)
		}
	}
	secret := sql.Null[[]byte]{V: []byte(password), Valid: password != ""}
	err := us.s.do(ctx, "create an account", func(ctx context.Context) error {
		result, err := us.s.write.ExecContext(ctx,
			"INSERT INTO users (username, email, email_key, password, created) VALUES (?, ?, ?, ?, ?)",
			[]byte(u.Username), []byte(u.Email), emailKey(u.Email), secret, time.Now().UnixNano())
		if err == nil {
			u.ID, err = result.LastInsertId()
			return err
		}
		if faultOf(err) != taken {
			return err
		}
		// The database names one index, and not always in the same words.
		switch username, email, err := us.taken(ctx, us.s.write, u.Username, u.Email); {
		case err != nil:
			return err
		case email:
			return relay.ErrEmailTaken
		case username:
			return relay.ErrUsernameTaken
		}
		return errAgain // whoever had it is gone
	})
	if err != nil {
		return relay.User{}, err
	}
	return u, nil
}

// ByEmail implements relay.Users.
func (us *Users) ByEmail(ctx context.Context, email string) (u relay.User, password string, err error) {
	var secret []byte
	err = us.s.do(ctx, "find an account", func(ctx context.Context) error {
		return noUser(us.s.read.QueryRowContext(ctx, "SELECT id, username, email, password FROM users WHERE email_key = ?",
			emailKey(email)).Scan(&u.ID, &u.Username, &u.Email, &secret))
	})
	return u, string(secret), err
}

// ByID implements relay.Users.
func (us *Users) ByID(ctx context.Context, id int64) (u relay.User, err error) {
	err = us.s.do(ctx, "find an account", func(ctx context.Context) error {
		return noUser(us.s.read.QueryRowContext(ctx, "SELECT id, username, email FROM users WHERE id = ?", id).
			Scan(&u.ID, &u.Username, &u.Email))
	})
	return u, err
}

// Taken implements relay.Users.
func (us *Users) Taken(ctx context.Context, username, email string) (usernameTaken, emailTaken bool, err error) {
	err = us.s.do(ctx, "look for names", func(ctx context.Context) (err error) {
		usernameTaken, emailTaken, err = us.taken(ctx, us.s.read, username, email)
		return err
	})
	return usernameTaken, emailTaken, err
}

func (us *Users) taken(ctx context.Context, db *sql.DB, username, email string) (usernameTaken, emailTaken bool, err error) {
	err = db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM users WHERE username = ?), EXISTS (SELECT 1 FROM users WHERE email_key = ?)",
		[]byte(username), emailKey(email)).Scan(&usernameTaken, &emailTaken)
	return usernameTaken, emailTaken, err
}

// emailKey is by what emails are compared.
func emailKey(email string) []byte { return []byte(strings.ToLower(email)) }

// noUser turns the lack of a row into the error that the contract knows.
func noUser(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return relay.ErrNoUser
	}
	return err
}
