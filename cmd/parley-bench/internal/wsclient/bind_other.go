//go:build !linux

package wsclient

import "syscall"

// bindWithoutPort has nothing to set here: the option is Linux's own.
func bindWithoutPort(_, _ string, _ syscall.RawConn) error { return nil }
