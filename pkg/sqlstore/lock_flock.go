//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package sqlstore

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// lockPause is the pause between two attempts to get a lock.
const lockPause = 20 * time.Millisecond

// lockFile waits until nobody else has the file, in this process or another one, and
// keeps it until it is closed, or the process ends; shared, those may have it too who
// share it. The file stays.
func lockFile(ctx context.Context, path string, shared bool) (*os.File, error) {
	how := syscall.LOCK_EX | syscall.LOCK_NB
	if shared {
		how = syscall.LOCK_SH | syscall.LOCK_NB
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	t := time.NewTicker(lockPause)
	defer t.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(&os.PathError{Op: "flock", Path: path, Err: err}, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(&os.PathError{Op: "flock", Path: path, Err: ctx.Err()}, f.Close())
		case <-t.C:
		}
	}
}
