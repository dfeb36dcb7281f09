package host

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestThisProcess(t *testing.T) {
	pid := os.Getpid()
	before, err := CPU(pid)
	if err != nil {
		t.Fatal(err)
	}
	ownBefore := OwnCPU()
	x := 0
	for OwnCPU()-ownBefore < 50*time.Millisecond {
		x++
	}
	after, err := CPU(pid)
	if err != nil {
		t.Fatal(err)
	}
	// /proc counts in ticks, so it may trail by one at each end.
	if used := after - before; used < 30*time.Millisecond {
		t.Errorf("/proc saw %v after %d loops of work for 50ms", used, x)
	}
	rss, err := RSS(pid)
	if err != nil || rss < 1<<20 {
		t.Errorf("resident memory %d, %v", rss, err)
	}
	if n, err := FileLimit(pid); err != nil || n == 0 {
		t.Errorf("limit of open files %d, %v", n, err)
	}
}

func TestNoSuchProcess(t *testing.T) {
	const pid = 1 << 30
	if _, err := CPU(pid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("CPU: %v", err)
	}
	if _, err := RSS(pid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("RSS: %v", err)
	}
	if _, err := FileLimit(pid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("FileLimit: %v", err)
	}
}

func TestFilesBeyondTheKernelsLimitAreNamed(t *testing.T) {
	most := maxFiles()
	if most == 0 {
		t.Fatal("/proc/sys/fs/nr_open says nothing")
	}
	err := RaiseFiles(most + 1)
	limit, ok := errors.AsType[*FilesError](err)
	if !ok || limit.Need != most+1 || limit.Have == 0 || !strings.Contains(limit.Limit, "fs.nr_open") {
		t.Errorf("%v", err)
	}
	if err := RaiseFiles(16); err != nil {
		t.Errorf("16 files: %v", err)
	}
}

func TestPorts(t *testing.T) {
	first, last, err := portRange()
	if err != nil {
		t.Fatal(err)
	}
	ports := (last - first + 1) * 9 / 10
	for _, c := range []struct{ connections, sources, destinations, needed int }{
		{ports, 1, 1, 0},
		{ports + 1, 1, 1, 2},
		{2 * ports, 1, 2, 0},
		{6*ports + 1, 2, 3, 3},
		{6 * ports, 2, 3, 0},
	} {
		err := CheckPorts(c.connections, c.sources, c.destinations)
		short, ok := errors.AsType[*PortsError](err)
		if ok != (c.needed > 0) || ok && short.Needed != c.needed {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestSleepIsNotShorterThanAsked(t *testing.T) {
	start := time.Now()
	Sleep(2 * time.Millisecond)
	if took := time.Since(start); took < 2*time.Millisecond {
		t.Errorf("slept %v of 2ms", took)
	}
	Sleep(-time.Second)
}
