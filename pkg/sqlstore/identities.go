package sqlstore

import (
	"context"
	"database/sql"
	"fmt"

	"parley/pkg/relay"
)

// maxIdentity is how long an issuer and a subject may be, in bytes; the columns have room
// for so much. OpenID Connect allows 255 characters of ASCII for a subject.
const maxIdentity = 512

// Identities implements relay.Identities.
type Identities struct{ s *Store }

var _ relay.Identities = (*Identities)(nil)

// identity is what an issuer calls somebody.
type identity struct{ issuer, subject string }

func (i *identity) insert(ctx context.Context, tx *sql.Tx, user, created int64) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO identities (issuer, subject, user_id, created) VALUES (?, ?, ?, ?)",
		[]byte(i.issuer), []byte(i.subject), user, created)
	if faultOf(err) == taken {
		return relay.ErrIdentityTaken
	}
	return err
}

func (i *identity) account(ctx context.Context, db asker) (u relay.User, err error) {
	err = db.QueryRowContext(ctx, "SELECT u.id, u.username, u.email FROM identities i JOIN users u ON u.id = i.user_id "+
		"WHERE i.issuer = ? AND i.subject = ?", []byte(i.issuer), []byte(i.subject)).Scan(&u.ID, &u.Username, &u.Email)
	return u, noRows(err, relay.ErrNoUser)
}

// ByIdentity implements relay.Identities.
func (is *Identities) ByIdentity(ctx context.Context, issuer, subject string) (u relay.User, err error) {
	err = is.s.do(ctx, "find an identity", func(ctx context.Context) error {
		u, err = (&identity{issuer, subject}).account(ctx, is.s.read)
		return err
	})
	return u, err
}

// CreateWithIdentity implements relay.Identities. After an error that wraps
// relay.ErrUnavailable both may exist. A username, email, issuer or subject of more than
// 512 bytes is an error of its own.
func (is *Identities) CreateWithIdentity(ctx context.Context, u relay.User, issuer, subject string) (relay.User, error) {
	if n := max(len(issuer), len(subject)); n > maxIdentity {
		return relay.User{}, fmt.Errorf("an issuer or a subject of %d bytes, %d are the most", n, maxIdentity)
	}
	return is.s.createUser(ctx, u, "", &identity{issuer, subject})
}
