package drill

import "syscall"

// dieWithParent has the system send a child a signal when this process dies.
func dieWithParent(by syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: by}
}
