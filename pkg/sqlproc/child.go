package sqlproc

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
)

// child is one process.
type child struct {
	process *os.Process
	exited  chan struct{}
}

// launch starts a process whose output goes to log. A goroutine waits for it
// until it has ended.
func launch(program string, args []string, log *logBuffer) (*child, error) {
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()
	c := &child{exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The system ends a child with the thread that has started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.exited)
		err := cmd.Start()
		c.process = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is told by its log
		}
	}()
	return c, <-started
}

// maxLog is how much of a server's log is kept, in bytes: the last.
const maxLog = 1 << 20

// logBuffer keeps what a server says.
type logBuffer struct {
	mu      sync.Mutex
	b       []byte
	dropped int // bytes before b
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	if over := len(l.b) - maxLog; over > maxLog { // not for every line
		l.b = append(l.b[:0], l.b[over:]...)
		l.dropped += over
	}
	return len(p), nil
}

// len is how much was said.
func (l *logBuffer) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped + len(l.b)
}

// since returns what was said after the first n bytes, as far as it is kept.
func (l *logBuffer) since(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b[max(0, n-l.dropped):])
}
