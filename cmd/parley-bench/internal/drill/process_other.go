//go:build !linux

package drill

import "syscall"

// dieWithParent can be had on Linux only: elsewhere children outlive a process
// that is killed.
func dieWithParent(syscall.Signal) *syscall.SysProcAttr { return nil }
