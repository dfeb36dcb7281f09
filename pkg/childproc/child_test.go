package childproc

import (
	"os/exec"
	"strings"
	"testing"
)

func TestLogIsBounded(t *testing.T) {
	l := new(Log)
	for range 5 * maxLog / 1024 {
		if _, err := l.Write(make([]byte, 1024)); err != nil {
			t.Fatal(err)
		}
	}
	if l.Len() != 5*maxLog {
		t.Errorf("%d bytes were said, want %d", l.Len(), 5*maxLog)
	}
	if n := len(l.Since(0)); n < maxLog || n > 2*maxLog {
		t.Errorf("%d bytes are kept, want between %d and twice this", n, maxLog)
	}
	from := l.Len()
	_, _ = l.Write([]byte("new"))
	if got := l.Since(from); got != "new" {
		t.Errorf("since the end: %q", got)
	}
}

func TestLaunch(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	log := new(Log)
	c, err := Launch(sh, []string{"-c", "echo said; echo complained >&2; exec sleep 60"}, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-c.Exited
	c, err = Launch(sh, []string{"-c", "echo said; echo complained >&2"}, log)
	if err != nil {
		t.Fatal(err)
	}
	<-c.Exited
	if text := log.Since(0); !strings.HasSuffix(text, "said\ncomplained\n") {
		t.Errorf("the log has %q", text)
	}
	if _, err := Launch(sh+"/none", nil, log); err == nil {
		t.Error("what does not exist was started")
	}
}
