package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	// maxConns is how many connections a node has to its database at most. MySQL and
	// MariaDB allow 151 in all unless told otherwise.
	maxConns     = 16
	maxIdleConns = 4
	// Connections are renewed, so that a balancer or a fail-over in front of several
	// databases takes effect.
	maxConnLife = 5 * time.Minute
	maxConnIdle = time.Minute
	dialTimeout = 3 * time.Second
	// lockWait is how long a statement waits for another's lock, in whole seconds.
	// maxAttempts of them end before QueryTimeout does, or with it.
	lockWait = 1
	// maxPacket is what a statement may be long, on our side. The server's own limit
	// has to be 16 MiB or more: it is by default.
	maxPacket = 64 << 20
)

// openMySQL prepares the connections; nothing is asked yet.
func (s *Store) openMySQL(a address) error {
	s.dialect = &mysqlDialect
	pool, err := mysqlPool(a, s.log, QueryTimeout)
	if err != nil {
		return err
	}
	pool.SetMaxOpenConns(maxConns)
	pool.SetMaxIdleConns(maxIdleConns)
	pool.SetConnMaxLifetime(maxConnLife)
	pool.SetConnMaxIdleTime(maxConnIdle)
	s.read, s.write = pool, pool
	s.open = func(ctx context.Context) error { return s.migrateMySQL(ctx, a) }
	return nil
}

// mysqlPool makes a pool of connections on which no answer takes longer than patience;
// 0 is as long as it takes.
func mysqlPool(a address, log *slog.Logger, patience time.Duration) (*sql.DB, error) {
	c := mysql.NewConfig()
	c.Net, c.Addr = "tcp", a.host
	c.User, c.Passwd, c.DBName = a.user, a.password, a.database
	c.TLSConfig = a.tls
	c.Timeout, c.ReadTimeout, c.WriteTimeout = dialTimeout, patience, patience
	c.MaxAllowedPacket = maxPacket
	c.Logger = driverLog{log}
	c.Params = map[string]string{
		// What does not fit is refused, not cut off.
		"sql_mode":                 "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
		"innodb_lock_wait_timeout": fmt.Sprint(lockWait),
		"time_zone":                "'+00:00'",
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return sql.OpenDB(connector), nil
}

// migrateMySQL brings the tables up to date, one node at a time. It has connections
// of its own, since a change of a large table may take longer than a call.
func (s *Store) migrateMySQL(ctx context.Context, a address) (err error) {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	db, err := mysqlPool(a, s.log, 0)
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := firstConn(ctx, db)
	if err != nil {
		return wrap("connect", err)
	}
	defer conn.Close()
	// The lock is the server's, hence named after the database, by something short.
	// It ends with the connection.
	const name = "CONCAT('parley ', MD5(DATABASE()))"
	var got sql.NullInt64
	err = conn.QueryRowContext(ctx, "SELECT GET_LOCK("+name+", ?)", int(migrateTimeout/time.Second)).Scan(&got)
	if err == nil && got.Int64 != 1 {
		err = fmt.Errorf("another node is at the tables: %w", errAgain)
	}
	if err != nil {
		return wrap("lock", err)
	}
	if err := migrate(ctx, db, s.dialect, s.log); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "DO RELEASE_LOCK("+name+")")
	return wrap("unlock", err)
}

// firstConn connects, within QueryTimeout.
func firstConn(ctx context.Context, db *sql.DB) (*sql.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, QueryTimeout)
	defer cancel()
	return db.Conn(ctx)
}

// driverLog passes on what the driver says of connections that break. It is for
// debugging: the call that is concerned has the error.
type driverLog struct{ log *slog.Logger }

// Print implements mysql.Logger.
func (l driverLog) Print(v ...any) { l.log.Debug("database driver", "text", fmt.Sprint(v...)) }
