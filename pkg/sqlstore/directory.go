package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"parley/pkg/relay"
)

// Directory implements relay.Directory.
type Directory struct{ s *Store }

var _ relay.Directory = (*Directory)(nil)

// ByID implements relay.Directory.
func (d *Directory) ByID(ctx context.Context, id int64) (relay.User, error) {
	return d.s.findUser(ctx, "id = ?", id)
}

// ByUsername implements relay.Directory.
func (d *Directory) ByUsername(ctx context.Context, username string) (relay.User, error) {
	return d.s.findUser(ctx, "username = ?", []byte(username))
}

// Rename implements relay.Directory. After an error that wraps relay.ErrUnavailable it
// may have been done. A username or email of more than 512 bytes is an error of its own.
func (d *Directory) Rename(ctx context.Context, id int64, username, email *string) (u relay.User, err error) {
	for name, text := range map[string]*string{"username": username, "email": email} {
		if text != nil && len(*text) > maxNameBytes {
			return relay.User{}, fmt.Errorf("a %s of %d bytes, %d are the most", name, len(*text), maxNameBytes)
		}
	}
	err = d.s.do(ctx, "rename an account", func(ctx context.Context) error {
		err := d.s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
			if u, err = userOf(ctx, tx, "id = ?"+d.s.dialect.lock, id); err != nil {
				return err
			}
			renamed := username != nil && *username != u.Username
			if renamed {
				u.Username = *username
			}
			if email != nil {
				u.Email = *email
			}
			_, err = tx.ExecContext(ctx, "UPDATE users SET username = ?, email = ?, email_key = ? WHERE id = ?",
				[]byte(u.Username), []byte(u.Email), emailKey(u.Email), id)
			switch {
			case faultOf(err) == taken:
				return errTaken
			case err != nil || !renamed:
				return err
			}
			if _, err := tx.ExecContext(ctx, "DELETE FROM name_parts WHERE user_id = ?", id); err != nil {
				return err
			}
			return d.s.addParts(ctx, tx, u)
		})
		if errors.Is(err, errTaken) {
			return d.s.whichIsTaken(ctx, id, username, email)
		}
		return err
	})
	if err != nil {
		return relay.User{}, err
	}
	return u, nil
}
