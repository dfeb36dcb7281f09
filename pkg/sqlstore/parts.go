package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"unicode/utf8"
)

// partRows is how many parts of names one statement stores at most.
const partRows = 1000

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

// addParts has an account be found by its name.
func (s *Store) addParts(ctx context.Context, tx *sql.Tx, user int64, username string) error {
	for parts := range slices.Chunk(partsOf(username), partRows) {
		var args []any
		for _, p := range parts {
			args = append(args, p.stage, []byte(p.part), user)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO name_parts (stage, part, user_id) VALUES "+list("(?, ?, ?)", len(parts))+
			s.dialect.keepPart, args...)
		if err != nil {
			return err
		}
	}
	return nil
}
