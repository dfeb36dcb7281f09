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
	return us.s.createUser(ctx, u, password, nil)
}

// errTaken means that another account has a new one's username or email.
var errTaken = errors.New("a name of the account is taken")

// createUser makes an account, with what else belongs to it.
func (s *Store) createUser(ctx context.Context, u relay.User, password string, id *identity) (relay.User, error) {
	for _, field := range []struct{ name, text string }{{"username", u.Username}, {"email", u.Email}, {"password", password}} {
		if len(field.text) > maxNameBytes {
			return relay.User{}, fmt.Errorf("a %s of %d bytes, %d are the most", field.name, len(field.text), maxNameBytes)
		}
	}
	secret := sql.Null[[]byte]{V: []byte(password), Valid: password != ""}
	err := s.do(ctx, "create an account", func(ctx context.Context) error {
		err := s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
			created := time.Now().UnixNano()
			result, err := tx.ExecContext(ctx,
				"INSERT INTO users (username, email, email_key, password, created) VALUES (?, ?, ?, ?, ?)",
				[]byte(u.Username), []byte(u.Email), emailKey(u.Email), secret, created)
			if faultOf(err) == taken {
				return errTaken
			}
			if err == nil {
				u.ID, err = result.LastInsertId()
			}
			if err == nil {
				err = s.addParts(ctx, tx, u)
			}
			if err == nil && id != nil {
				err = id.insert(ctx, tx, u.ID, created)
			}
			return err
		})
		if !errors.Is(err, errTaken) {
			return err
		}
		if id != nil {
			// Whoever was faster has the email of the same subject, too.
			switch _, err := id.account(ctx, s.write); {
			case err == nil:
				return relay.ErrIdentityTaken
			case !errors.Is(err, relay.ErrNoUser):
				return err
			}
		}
		return s.whichIsTaken(ctx, 0, &u.Username, &u.Email)
	})
	if err != nil {
		return relay.User{}, err
	}
	return u, nil
}

// whichIsTaken tells which of an account's new names another one has. The database names
// one index, and not always in the same words.
func (s *Store) whichIsTaken(ctx context.Context, id int64, username, email *string) error {
	if email != nil {
		switch found, err := has(ctx, s.write, "SELECT 1 FROM users WHERE email_key = ? AND id <> ?", emailKey(*email), id); {
		case err != nil:
			return err
		case found:
			return relay.ErrEmailTaken
		}
	}
	if username != nil {
		switch found, err := has(ctx, s.write, "SELECT 1 FROM users WHERE username = ? AND id <> ?", []byte(*username), id); {
		case err != nil:
			return err
		case found:
			return relay.ErrUsernameTaken
		}
	}
	return errAgain // whoever had it is gone
}

// ByEmail implements relay.Users.
func (us *Users) ByEmail(ctx context.Context, email string) (u relay.User, password string, err error) {
	var secret []byte
	err = us.s.do(ctx, "find an account", func(ctx context.Context) error {
		err := us.s.read.QueryRowContext(ctx, "SELECT id, username, email, password FROM users WHERE email_key = ?",
			emailKey(email)).Scan(&u.ID, &u.Username, &u.Email, &secret)
		return noRows(err, relay.ErrNoUser)
	})
	return u, string(secret), err
}

// ByID implements relay.Users.
func (us *Users) ByID(ctx context.Context, id int64) (relay.User, error) {
	return us.s.findUser(ctx, "id = ?", id)
}

// findUser finds the one account of which something is true.
func (s *Store) findUser(ctx context.Context, is string, arg any) (u relay.User, err error) {
	err = s.do(ctx, "find an account", func(ctx context.Context) error {
		u, err = userOf(ctx, s.read, is, arg)
		return err
	})
	return u, err
}

func userOf(ctx context.Context, db asker, is string, arg any) (u relay.User, err error) {
	err = db.QueryRowContext(ctx, "SELECT id, username, email FROM users WHERE "+is, arg).Scan(&u.ID, &u.Username, &u.Email)
	return u, noRows(err, relay.ErrNoUser)
}

// Taken implements relay.Users.
func (us *Users) Taken(ctx context.Context, username, email string) (usernameTaken, emailTaken bool, err error) {
	err = us.s.do(ctx, "look for names", func(ctx context.Context) error {
		return us.s.read.QueryRowContext(ctx,
			"SELECT EXISTS (SELECT 1 FROM users WHERE username = ?), EXISTS (SELECT 1 FROM users WHERE email_key = ?)",
			[]byte(username), emailKey(email)).Scan(&usernameTaken, &emailTaken)
	})
	return usernameTaken, emailTaken, err
}

// emailKey is by what emails are compared.
func emailKey(email string) []byte { return []byte(strings.ToLower(email)) }
