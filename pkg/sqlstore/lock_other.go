//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package sqlstore

import (
	"context"
	"os"
)

// lockFile only opens the file: on this system nobody keeps apart two processes that
// create the same tables at the same moment, or that should not use one file.
func lockFile(_ context.Context, path string, _ bool) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}
