package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ticksPerSecond is USER_HZ, the unit of /proc/PID/stat: 100 on all systems
// that Go runs on.
const ticksPerSecond = 100

// CPU returns the user and system time that the process has used so far, all
// its threads included, in steps of 10 ms.
func CPU(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("process %d: %w", pid, err)
	}
	// The second field is the command in parentheses, and may hold anything.
	_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("process %d: /proc/%d/stat is cut short", pid, pid)
	}
	const utime, stime = 11, 12
	var ticks int64
	for _, field := range []int{utime, stime} {
		n, err := strconv.ParseInt(fields[field], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / ticksPerSecond), nil
}

// RSS returns the resident memory of the process in bytes.
func RSS(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no memory: it has ended", pid)
}

// FileLimit returns how many files the process may open.
func FileLimit(pid int) (uint64, error) {
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return 0, fmt.Errorf("process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			soft := strings.Fields(rest)[0]
			if soft == "unlimited" {
				return 1<<64 - 1, nil
			}
			return strconv.ParseUint(soft, 10, 64)
		}
	}
	return 0, fmt.Errorf("process %d: no limit of open files in /proc/%d/limits", pid, pid)
}

// OwnCPU returns the user and system time of this process.
func OwnCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// RaiseFiles lets this process open need files, raising its own limits where
// the system lets it. When it cannot it returns a *FilesError.
func RaiseFiles(need uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	if limit.Cur >= need {
		return nil
	}
	raised := syscall.Rlimit{Cur: need, Max: max(need, limit.Max)}
	err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised)
	if err == nil {
		return nil
	}
	have := limit.Cur
	if limit.Cur < limit.Max { // take what there is
		limit.Cur = limit.Max
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
			have = limit.Max
		}
	}
	reason := fmt.Sprintf("the hard limit RLIMIT_NOFILE stands in the way; raise it with `ulimit -Hn %d` as root, "+
		"in /etc/security/limits.conf, or as LimitNOFILE of the service", need)
	if most := maxFiles(); most > 0 && need > most {
		reason = fmt.Sprintf("the kernel's fs.nr_open of %d stands in the way; raise it with `sysctl fs.nr_open=%d` first",
			most, need)
	}
	return &FilesError{Need: need, Have: have, Limit: reason}
}

// maxFiles is what no limit of open files may exceed, 0 when unknown.
func maxFiles() uint64 {
	b, err := os.ReadFile("/proc/sys/fs/nr_open")
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func portRange() (first, last int, err error) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, 0, err
	}
	_, err = fmt.Sscan(string(b), &first, &last)
	return first, last, err
}

// Sleep sleeps on the kernel's clock, and is exact to some tens of
// microseconds where the runtime's timers round to a millisecond in a process
// that is otherwise idle. It occupies a thread and cannot be interrupted.
func Sleep(d time.Duration) {
	for d > 0 {
		request, left := syscall.NsecToTimespec(int64(d)), syscall.Timespec{}
		if err := syscall.Nanosleep(&request, &left); !errors.Is(err, syscall.EINTR) {
			return
		}
		d = time.Duration(left.Nano())
	}
}

// Files is how many files this process may open.
func Files() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}
	return limit.Cur, nil
}
