//go:build !linux

package childproc

import "syscall"

// dieWithParent can be had on Linux only: elsewhere children outlive a process
// that is killed.
func dieWithParent() *syscall.SysProcAttr { return nil }
