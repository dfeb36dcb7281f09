package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
)

const (
	// migrateTimeout is how long a node works on the tables, or waits for another one
	// that does.
	migrateTimeout = 5 * time.Minute
	// versionTable holds the migrations that were made.
	versionTable = "parley_migrations"
)

// Files are named number_what.sql. See the package's documentation for what one may
// do.
//
//go:embed migrations/*/*.sql
var migrations embed.FS

// migrate makes the migrations that the database lacks. The caller sees to it that
// nobody else does.
func migrate(ctx context.Context, db *sql.DB, d *dialect, log *slog.Logger) error {
	dir, err := fs.Sub(migrations, "migrations/"+d.name)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(d.migrations, db, dir, goose.WithTableName(versionTable),
		goose.WithDisableGlobalRegistry(true), goose.WithSlog(log))
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	made, err := p.Up(ctx)
	for _, m := range made {
		log.Info("the database was migrated", "to", filepath.Base(m.Source.Path), "took", m.Duration)
	}
	return wrap("migrate", err)
}
