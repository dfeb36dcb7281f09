//go:build !linux

package host

import "time"

// CPU is known on Linux only.
func CPU(int) (time.Duration, error) { return 0, ErrUnsupported }

// RSS is known on Linux only.
func RSS(int) (int64, error) { return 0, ErrUnsupported }

// FileLimit is known on Linux only.
func FileLimit(int) (uint64, error) { return 0, ErrUnsupported }

// OwnCPU is known on Linux only, and 0 elsewhere.
func OwnCPU() time.Duration { return 0 }

// RaiseFiles leaves the limit as the Go runtime has set it: at its hard end.
func RaiseFiles(uint64) error { return nil }

// Files is known on Linux only.
func Files() (uint64, error) { return 0, ErrUnsupported }

func portRange() (first, last int, err error) { return 0, 0, ErrUnsupported }

// Sleep sleeps on the runtime's clock.
func Sleep(d time.Duration) { time.Sleep(d) }
