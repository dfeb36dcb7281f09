package sqlstore

import (
	"context"
	"database/sql"
	"strings"
	"unicode/utf8"

	"parley/pkg/relay"
)

// partArgs is with how many arguments a statement that stores parts of names is full. A
// part is at most maxPart long, so it stays far below what a statement may be.
const partArgs = 3 * 500

// namePart is a row of name_parts; see there.
type namePart struct {
	stage int
	part  string
}

// fold is by what names are searched.
func fold(text string) string { return strings.ToLower(text) }

// partsOf are all parts of a name.
func partsOf(username string) (parts []namePart) {
	name := fold(username)
	parts = append(parts, namePart{0, name})
	for i := 1; i < len(name); i++ {
		if !utf8.RuneStart(name[i]) {
			continue
		}
		part, again := name[i:], 0
		for j := range i {
			again = max(again, common(name[j:], part))
		}
		parts = append(parts, namePart{1 + again, part})
	}
	return parts
}

// common is how many bytes two texts begin with that are the same.
func common(a, b string) (n int) {
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// addParts has accounts be found by their names.
func (s *Store) addParts(ctx context.Context, tx *sql.Tx, users ...relay.User) error {
	var args []any
	flush := func() error {
		if len(args) == 0 {
			return nil
		}
		const row = "(?, ?, ?)"
		_, err := tx.ExecContext(ctx, "INSERT INTO name_parts (stage, part, user_id) VALUES "+
			list(row, len(args)/strings.Count(row, "?")), args...)
		args = nil
		return err
	}
	for _, u := range users {
		for _, p := range partsOf(u.Username) {
			if args = append(args, p.stage, []byte(p.part), u.ID); len(args) >= partArgs {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}
