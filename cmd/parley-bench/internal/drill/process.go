package drill

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// process is a child process whose output is in a file. It ends with this
// process, whatever that ends by.
type process struct {
	name    string
	logFile string
	os      *os.Process
	exited  chan struct{} // closed at its end
	code    int           // its exit code, -1 after a signal; set before exited is closed
	at      time.Time     // its end; set before exited is closed

}

// startProcess runs a program. Its output is appended to dir/name.log, and env
// is added to this process's environment.
func startProcess(dir, name, program string, args, env []string) (*process, error) {
	return startMortal(syscall.SIGKILL, dir, name, program, args, env)
}

// startMortal is startProcess for a program that has to be ended by another
// signal, because it has children of its own to end.
func startMortal(by syscall.Signal, dir, name, program string, args, env []string) (*process, error) {
	p := &process{name: name, logFile: filepath.Join(dir, name+".log"), exited: make(chan struct{})}
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = dieWithParent(by)
	started := make(chan error, 1)
	go func() {
		defer log.Close()
		// The system ends the child with the thread that has started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		p.os = cmd.Process
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		p.at = time.Now()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			p.code = exit.ExitCode()
		}
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// signal sends a signal; nothing happens when the process has ended.
func (p *process) signal(s os.Signal) { _ = p.os.Signal(s) }

// kill ends the process by SIGKILL and waits for its end.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// running tells whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// waitFor waits for the end of the process; false when it takes longer.
func (p *process) waitFor(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.exited:
		return true
	case <-timer.C:
		return false
	}
}
