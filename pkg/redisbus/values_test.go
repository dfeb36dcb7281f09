package redisbus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"parley/pkg/embedded"
	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// shares makes nodes that run until the end of their test.
func shares(o redisbus.Options) func(testing.TB) relaytest.Shared {
	return func(tb testing.TB) relaytest.Shared {
		b := openWith(tb, o)
		relaytest.Run(tb, b)
		return b.Values()
	}
}

func TestValuesOnRedis(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	relaytest.Values(t, shares(redisbus.Options{URL: r.URL()}))
}

func TestValuesOnEmbeddedRedis(t *testing.T) {
	relaytest.NoLeaks(t)
	r, err := embedded.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	relaytest.Values(t, shares(redisbus.Options{URL: r.URL()}))
}

// What counts has been seen by the replicas.
func TestValuesOnSentinel(t *testing.T) {
	s := relaytest.StartSentinel(t, redisproc.SentinelOptions{})
	o := optionsWaiting(s.URL(), 2)
	o.WaitTimeout = time.Second
	relaytest.Values(t, shares(o))
}

func TestValuesOnCluster(t *testing.T) {
	c := relaytest.StartCluster(t, redisproc.ClusterOptions{Replicas: -1})
	relaytest.Values(t, shares(redisbus.Options{URL: c.URL()}))
}

// Whatever state Redis is in, a call answers in time, and works again when Redis does.
func TestValuesWithoutRedis(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	v := shares(redisbus.Options{URL: r.URL()})(t)
	put := func() error { return v.Put(t.Context(), "k/x", []byte("1"), time.Minute) }
	calls := map[string]func() error{
		"Put":    put,
		"Get":    func() error { _, err := v.Get(t.Context(), "k/x", "k/y"); return err },
		"Delete": func() error { _, err := v.Delete(t.Context(), "k/x"); return err },
		"Take":   func() error { _, err := v.Take(t.Context(), "k/x", 5, time.Minute); return err },
		"Return": func() error { return v.Return(t.Context(), "k/x") },
	}
	fail := func(state string) {
		t.Helper()
		var wg sync.WaitGroup
		for name, call := range calls {
			wg.Go(func() {
				began := time.Now()
				if err := call(); !errors.Is(err, relay.ErrUnavailable) {
					t.Errorf("%s while redis is %s: error = %v, want %v", name, state, err, relay.ErrUnavailable)
				}
				// The promise is two seconds, on a machine that has nothing else to do.
				if took := time.Since(began); took > 2*time.Second+relaytest.Patience/10 {
					t.Errorf("%s while redis is %s took %v", name, state, took)
				}
			})
		}
		wg.Wait()
	}
	work := func(state string) {
		t.Helper()
		if err := put(); err != nil {
			t.Errorf("redis is %s: %v", state, err)
		}
	}
	work("there")
	r.Stop(t)
	fail("stopped")
	r.Cont(t)
	relaytest.Eventually(t, "redis is back", func() bool { return put() == nil })
	r.Kill()
	fail("dead")
	r.Restart(t)
	work("restarted, and connections are those from before")
	if values, err := v.Get(t.Context(), "k/x"); err != nil || string(values[0]) != "1" {
		t.Errorf("after the restart: %q, %v", values, err)
	}
	if err := r.Client().ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Take(t.Context(), "k/x", 5, time.Minute); err != nil {
		t.Errorf("scripts are flushed: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := v.Put(ctx, "k/x", nil, time.Minute); !errors.Is(err, relay.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: error = %v", err)
	}
}

// A bus that has ended says so at once.
func TestValuesAfterTheEnd(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	b := openWith(t, redisbus.Options{URL: r.URL()})
	v := b.Values()
	if err := v.Put(t.Context(), "k/x", nil, time.Minute); err != nil {
		t.Errorf("before Run: %v", err)
	}
	_, end := relaytest.Run(t, b)
	end()
	if err := v.Put(t.Context(), "k/x", nil, time.Minute); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("after Run: error = %v, want %v", err, relay.ErrUnavailable)
	}
}

// A connection that Redis refuses to make ready was never used: nothing is taken for done.
func TestValuesOnRefusedConnections(t *testing.T) {
	r := relaytest.StartRedis(t)
	if err := r.Client().Do(t.Context(), "ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-script").Err(); err != nil {
		t.Fatal(err)
	}
	b := openWith(t, redisbus.Options{URL: r.URL(), Credentials: redisbus.Credentials{Username: "limited", Password: "secret"}})
	relaytest.Run(t, b)
	v := b.Values()
	if err := v.Put(t.Context(), "k/x", []byte("1"), time.Minute); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Put: error = %v, want %v", err, relay.ErrUnavailable)
	}
	if values, err := v.Get(t.Context(), "k/x", "k/y"); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Get: %q, error = %v, want %v", values, err, relay.ErrUnavailable)
	}
	if wait, err := v.Take(t.Context(), "k/x", 1, time.Minute); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Take: %v, error = %v, want %v", wait, err, relay.ErrUnavailable)
	}
}

// When too few replicas have a value it was not put.
func TestValuesWaitForReplicas(t *testing.T) {
	r := relaytest.StartRedis(t)
	v := shares(optionsWaiting(r.URL(), 1))(t)
	if err := v.Put(t.Context(), "k/x", []byte("1"), time.Minute); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Put without a replica: error = %v, want %v", err, relay.ErrUnavailable)
	}
	if _, err := v.Delete(t.Context(), "k/x"); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Delete without a replica: error = %v, want %v", err, relay.ErrUnavailable)
	}
	if _, err := v.Get(t.Context(), "k/x"); err != nil {
		t.Errorf("Get needs no replica: %v", err)
	}
	if _, err := v.Take(t.Context(), "k/x", 1, time.Minute); err != nil {
		t.Errorf("Take needs no replica: %v", err)
	}
}

// However many wait for replicas that are away, others find a connection.
func TestValuesThatWaitLeaveRoom(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	o := optionsWaiting(r.URL(), 1)
	o.WaitTimeout = redisbus.MaxWaitTimeout
	b := openWith(t, o)
	relaytest.Run(t, b)
	v := b.Values()
	var wg sync.WaitGroup
	for i := range 6 * redisbus.ValueWaits {
		wg.Go(func() {
			if err := v.Put(t.Context(), fmt.Sprint("k/", i), nil, time.Minute); !errors.Is(err, relay.ErrUnavailable) {
				t.Errorf("Put without a replica: error = %v, want %v", err, relay.ErrUnavailable)
			}
		})
	}
	relaytest.Eventually(t, "as many wait as may", func() bool { return v.InUse() >= redisbus.ValueWaits })
	const others = 2 // the link's own questions, each second
	for range 10 {
		if n := v.InUse(); n > redisbus.ValueWaits+others {
			t.Errorf("%d connections are in use, want %d", n, redisbus.ValueWaits)
		}
		if _, err := v.Get(t.Context(), "k/x"); err != nil {
			t.Errorf("Get meanwhile: %v", err)
		}
	}
	wg.Wait()
}

// What was put when all replicas had to have it outlives the master; meanwhile calls
// fail or work, but none lies.
func TestValuesAfterFailover(t *testing.T) {
	s := relaytest.StartSentinel(t, redisproc.SentinelOptions{})
	o := optionsWaiting(s.URL(), 1)
	o.WaitTimeout = time.Second
	v := shares(o)(t)
	before := 0
	put := func(i int) bool {
		err := v.Put(t.Context(), fmt.Sprint("k/", i), []byte(fmt.Sprint(i)), time.Hour)
		if err != nil && !errors.Is(err, relay.ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	}
	relaytest.Eventually(t, "a hundred values", func() bool {
		if put(before) {
			before++
		}
		return before == 100
	})
	// One of two replicas has each value for sure: so that the promoted one is it, both
	// are to have all.
	master, err := s.Master(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := master.Client().Conn()
	defer c.Close()
	if err := c.Set(t.Context(), "parley:last", 1, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Wait(t.Context(), 2, relaytest.Patience).Result(); err != nil || n != 2 {
		t.Fatalf("%d replicas have the values (%v), want 2", n, err)
	}
	if _, err := s.KillMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	relaytest.Eventually(t, "values can be put again", func() bool { return put(before) })
	for i := range before + 1 {
		values, err := v.Get(t.Context(), fmt.Sprint("k/", i))
		if err != nil || string(values[0]) != fmt.Sprint(i) {
			t.Errorf("the value of %d is %q after the failover (%v)", i, values, err)
		}
	}
}

// The slot of some values moves to and fro: none is missed at any moment, and calls
// work as soon as the Cluster agrees on who has it.
func TestValuesFollowTheirSlot(t *testing.T) {
	c := relaytest.StartCluster(t, redisproc.ClusterOptions{Replicas: -1})
	v := shares(redisbus.Options{URL: c.URL()})(t)
	var keys []string
	slot := redisbus.TopicSlot("k/0")
	for i := 0; len(keys) < 50; i++ {
		if key := fmt.Sprint("k/", i); redisbus.TopicSlot(relay.Topic(key)) == slot {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		if err := v.Put(t.Context(), key, []byte(key), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	moved := make(chan error, 1)
	go func() {
		for range 2 {
			for _, to := range c.Servers {
				if err := c.MoveSlot(t.Context(), slot, to); err != nil {
					moved <- err
					return
				}
			}
		}
		moved <- nil
	}()
	rounds, failed := 0, 0
	// works tells whether a call did; it may fail for the moment.
	works := func(what string, err error) bool {
		if err != nil && !errors.Is(err, relay.ErrUnavailable) {
			t.Fatalf("round %d: %s: %v", rounds, what, err)
		}
		if err != nil {
			failed++
		}
		return err == nil
	}
	round := func() bool {
		values, err := v.Get(t.Context(), keys...)
		worked := works("Get", err)
		for i, value := range values {
			if string(value) != keys[i] {
				t.Fatalf("round %d: under %s there is %q", rounds, keys[i], value)
			}
		}
		_, err = v.Take(t.Context(), fmt.Sprint(keys[0], "-", rounds), 1, time.Minute)
		worked = works("Take", err) && worked
		key := keys[rounds%len(keys)]
		rounds++
		return works("Put", v.Put(t.Context(), key, []byte(key), time.Hour)) && worked
	}
	for moving := true; moving; {
		select {
		case err := <-moved:
			if err != nil {
				t.Fatal(err)
			}
			moving = false
		default:
			round()
		}
	}
	relaytest.Eventually(t, "everything works", round)
	t.Logf("%d rounds, %d calls failed", rounds, failed)
}

// Keys of values are spread over the Cluster's partitions, and all of them expire.
func TestValueKeys(t *testing.T) {
	r := relaytest.StartRedis(t)
	v := shares(redisbus.Options{URL: r.URL()})(t)
	if err := v.Put(t.Context(), "session/1", []byte("x"), time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Take(t.Context(), "session/1", 9, time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"parley:v:session/1", "parley:c:session/1"} {
		if left, err := r.Client().PTTL(t.Context(), key).Result(); err != nil || left <= 0 || left > time.Minute {
			t.Errorf("%s expires in %v (%v), want up to a minute", key, left, err)
		}
	}
}
