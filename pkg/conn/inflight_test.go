package conn_test

import (
	"testing"
	"testing/synctest"

	"parley/pkg/conn"
)

func TestInFlightIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f conn.InFlight
		for range conn.MaxInFlight {
			f.Begin()
		}
		begun := make(chan struct{})
		go func() { f.Begin(); close(begun) }()
		synctest.Wait()
		select {
		case <-begun:
			t.Errorf("%d are in flight, want at most %d", f.Len(), conn.MaxInFlight)
		default:
		}
		f.End()
		<-begun
		if f.Len() != conn.MaxInFlight {
			t.Errorf("%d are in flight, want %d", f.Len(), conn.MaxInFlight)
		}
	})
}

func TestInFlightSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f conn.InFlight
		f.Settle() // nothing to wait for
		f.Begin()
		f.Begin()
		settled := make(chan struct{})
		go func() { f.Settle(); close(settled) }()
		synctest.Wait()
		f.End()
		synctest.Wait()
		select {
		case <-settled:
			t.Error("settled with one in flight")
		default:
		}
		f.End()
		<-settled
	})
}

func TestInFlightRaces(t *testing.T) {
	var f conn.InFlight
	ends := make(chan struct{}, 4*conn.MaxInFlight)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range ends {
			f.End()
		}
	}()
	for range 2000 {
		for range 3 {
			f.Begin()
			ends <- struct{}{}
		}
		f.Settle()
		if n := f.Len(); n != 0 {
			t.Fatalf("settled with %d in flight", n)
		}
	}
	close(ends)
	<-done
}
