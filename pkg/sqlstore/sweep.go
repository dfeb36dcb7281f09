package sqlstore

import (
	"context"
	"database/sql"
)

// buryRows is how many posts of a deleted group are deleted at once.
const buryRows = 200

// bury has the posts of a deleted conversation be deleted: now, or by and by if they are
// many.
func (s *Store) bury(ctx context.Context, tx *sql.Tx, c conversation) error {
	if c.newest <= buryRows {
		_, err := tx.ExecContext(ctx, "DELETE FROM posts WHERE conversation = ?", c.id)
		return err
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO graves (conversation) VALUES (?)", c.id)
	return err
}
