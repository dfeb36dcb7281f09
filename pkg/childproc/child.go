// Package childproc runs servers as child processes, for tests and drills. They die
// with the process that has started them, by whatever, where the system can do that.
package childproc

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
)

// Child is one process.
type Child struct {
	Process *os.Process
	Exited  chan struct{} // closed when it has ended
}

// Launch starts a process whose output goes to log. A goroutine waits for it
// until it has ended.
func Launch(program string, args []string, log *Log) (*Child, error) {
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()
	c := &Child{Exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The system ends a child with the thread that has started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.Exited)
		err := cmd.Start()
		c.Process = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is told by its log
		}
	}()
	return c, <-started
}

// maxLog is how much of a server's log is kept, in bytes: the last.
const maxLog = 1 << 20

// Log keeps what a server says, the last of it. The zero value is ready; its methods may
// be called from any goroutine.
type Log struct {
	mu      sync.Mutex
	b       []byte
	dropped int // bytes before b
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	if over := len(l.b) - maxLog; over > maxLog { // not for every line
		l.b = append(l.b[:0], l.b[over:]...)
		l.dropped += over
	}
	return len(p), nil
}

// Len is how many bytes were said.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped + len(l.b)
}

// Since returns what was said after the first n bytes, as far as it is kept.
func (l *Log) Since(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b[max(0, n-l.dropped):])
}
