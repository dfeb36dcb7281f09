package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"

	"parley/pkg/relay"
)

// fault is what an error of a database means to us.
type fault uint8

const (
	none  fault = iota
	away        // it cannot be reached, or cannot do it now
	again       // nothing was done, because others were at it: try again
	taken       // there is a row with this key already
	wrong       // it will never do it
)

// errAgain is for a call that wants to be tried again.
var errAgain = errors.New("the database changes too fast")

// faultOf tells what an error means, of either database.
func faultOf(err error) fault {
	var my *mysql.MySQLError
	var lite *sqlite.Error
	switch {
	case err == nil:
		return none
	case errors.Is(err, errAgain):
		return again
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return away // the cause may say more, but it follows from this
	case errors.As(err, &my):
		return mysqlFault(my.Number)
	case errors.As(err, &lite):
		return sqliteFault(lite.Code())
	case errors.Is(err, mysql.ErrPktTooLarge):
		return wrong
	}
	return away // of the network, or of a connection that has ended
}

// Codes of a database that does not let this node in. It is away as long as somebody
// changes its accounts, but at the start this is an error in the settings.
const (
	dbAccessDenied         = 1044
	accessDenied           = 1045
	badDB                  = 1049
	accessDeniedNoPassword = 1698
)

// passes tells whether an error of the first connection may pass by itself, so that
// it is worth while to go on trying.
func passes(err error) bool {
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		switch my.Number {
		case dbAccessDenied, accessDenied, badDB, accessDeniedNoPassword:
			return false
		}
		return mysqlFault(my.Number) == away || mysqlFault(my.Number) == again
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) ||
		errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, errAgain)
}

// mysqlFault knows the codes of MySQL and MariaDB (Server Error Message Reference).
func mysqlFault(code uint16) fault {
	switch code {
	case 1062: // ER_DUP_ENTRY
		return taken
	case 1205, // ER_LOCK_WAIT_TIMEOUT
		1213: // ER_LOCK_DEADLOCK
		return again
	case 1020, // ER_CHECKREAD: MariaDB: the row was changed since the snapshot
		1412: // ER_TABLE_DEF_CHANGED
		return again
	case 1021, 1114, // ER_DISK_FULL, ER_RECORD_FILE_FULL
		1037, 1038, 1041, // out of memory
		1040, 1203, 1226, // too many connections, also of this user
		dbAccessDenied, accessDenied, badDB, accessDeniedNoPassword,
		1129, 1130, // ER_HOST_IS_BLOCKED, ER_HOST_NOT_PRIVILEGED
		1053, 1077, 1078, 1079, // it shuts down
		1152, 1154, 1158, 1159, 1160, 1161, 1184, // the network
		1290, 1836, 1792, // it only reads: a replica, or one that is being demoted
		1047, 1180, // ER_UNKNOWN_COM_ERROR of a cluster's node that is not synced, ER_ERROR_DURING_COMMIT
		1317, 1927, 1969, 3024: // interrupted, killed, or by its own time limits
		return away
	}
	return wrong
}

// Result codes of SQLite, https://sqlite.org/rescode.html.
const (
	sqliteBusy       = 5
	sqliteLocked     = 6
	sqliteNoMem      = 7
	sqliteReadOnly   = 8
	sqliteInterrupt  = 9
	sqliteIOErr      = 10
	sqliteFull       = 13
	sqliteCantOpen   = 14
	sqliteProtocol   = 15
	sqliteUnique     = 19 | 8<<8
	sqlitePrimaryKey = 19 | 6<<8
)

func sqliteFault(code int) fault {
	switch code {
	case sqliteUnique, sqlitePrimaryKey:
		return taken
	case sqliteBusy:
		return away // for busyTimeout already
	}
	switch code & 0xff { // the rest tells more of the same
	case sqliteBusy, sqliteLocked:
		return again
	case sqliteNoMem, sqliteReadOnly, sqliteInterrupt, sqliteIOErr, sqliteFull, sqliteCantOpen, sqliteProtocol:
		return away
	}
	return wrong
}

// wrap makes an error of the database one of ours.
func wrap(what string, err error) error {
	switch faultOf(err) {
	case none:
		return nil
	case away, again:
		return fmt.Errorf("database: %s: %w: %w", what, relay.ErrUnavailable, err)
	}
	return fmt.Errorf("database: %s: %w", what, err)
}
