package childproc

import "syscall"

// dieWithParent has the system end a child when this process dies, by whatever.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
