package relaytest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"parley/pkg/relay"
)

// hopper is a reader that comes to any node, with answers that break at random, and what it
// has got.
type hopper struct {
	*mailbox
	name   string
	nodes  []*InboxNode
	random *rand.Rand
	times  map[string]int  // by message: how often it came
	broken map[string]bool // messages that were in an answer of which the inbox does not know that it came
	last   relay.ID        // of the newest message that came
	polls  int
	breaks int
}

func (m *mailbox) hopper(name string, nodes []*InboxNode, seed uint64) *hopper {
	return &hopper{mailbox: m, name: name, nodes: nodes, random: rand.New(rand.NewPCG(seed, 0)),
		times: map[string]int{}, broken: map[string]bool{}}
}

// node is the one that the next request lands on.
func (h *hopper) node() *InboxNode { return h.nodes[h.random.IntN(len(h.nodes))] }

// answer has an answer come, break, or be left by a node that dies.
func (h *hopper) answer(n *InboxNode, ms []relay.Message, end relay.Position) {
	h.polls++
	fate := h.random.IntN(10)
	whole := fate < 6
	comes := whole || fate%2 == 0 // the peer may have it, though the node does not know
	for _, x := range ms {
		id := x.ID.String()
		if comes {
			h.times[id]++
			if h.times[id] == 1 && x.ID.Compare(h.last) <= 0 {
				h.t.Errorf("%s: %v comes after %v", h.name, x.ID, h.last)
			}
			if x.ID.Compare(h.last) > 0 {
				h.last = x.ID
			}
		}
		if !whole {
			h.broken[id] = true
		}
	}
	if !whole {
		h.breaks++
	}
	if fate < 8 { // else the node is dead
		if err := n.Settle(h.t.Context(), h.topic, h.name, end, whole); err != nil {
			h.t.Errorf("Settle: %v", err)
		}
	}
}

// poll collects once. It insists when an answer has been written for too long.
func (h *hopper) poll(insist bool) (c relay.Collected, on *InboxNode) {
	on = h.node()
	c, err := on.Collect(h.t.Context(), h.topic, relay.Reading{Reader: h.name, Insist: insist}, 1+h.random.IntN(5))
	if err != nil {
		h.t.Errorf("Collect: %v", err)
	}
	if !c.Unsettled && !c.Complete && err == nil {
		h.t.Errorf("%s: messages are said to be missing after %v", h.name, c.Start)
	}
	return c, on
}

// check checks that all messages came, and none twice but for answers that broke.
func (h *hopper) check(all []relay.ID) {
	h.t.Helper()
	for i, id := range all {
		switch times := h.times[id.String()]; {
		case times == 0:
			h.t.Errorf("%s: message %d, %v, has not come", h.name, i, id)
		case times > 1 && !h.broken[id.String()]:
			h.t.Errorf("%s: message %d, %v, came %d times, and no answer with it broke", h.name, i, id, times)
		}
	}
	if len(h.times) != len(all) {
		h.t.Errorf("%s: %d messages came, %d were sent", h.name, len(h.times), len(all))
	}
	h.t.Logf("%s: %d messages in %d answers, of which %d broke", h.name, len(all), h.polls, h.breaks)
}

// publishing sends messages through any node, until all are sent.
func (m *mailbox) publishing(nodes []*InboxNode) (wait func() []relay.ID, done *atomic.Bool) {
	var wg sync.WaitGroup
	var all []relay.ID
	done = new(atomic.Bool)
	wg.Go(func() {
		defer done.Store(true)
		for i := range m.Rounds {
			id, err := nodes[i%len(nodes)].Publish(m.t.Context(), relay.Message{Topic: m.topic, Body: fmt.Append(nil, i)}, m.keep)
			if err != nil {
				m.t.Errorf("publishing: %v", err)
				return
			}
			all = append(all, id)
		}
	})
	return func() []relay.ID { wg.Wait(); return all }, done
}

// Readers hop between three nodes; some of what they are given comes live.
func testInboxHops(t *testing.T, m *mailbox) {
	m.keep.Length = int64(m.Rounds) + 1
	nodes := []*InboxNode{m.a, m.Open(t), m.Open(t)}
	var hoppers []*hopper
	for i := range 3 {
		h := m.hopper(fmt.Sprint("hopper-", i), nodes, rand.Uint64())
		m.get(m.a, h.name) // known, so that nobody else drops a message for it
		hoppers = append(hoppers, h)
	}
	wait, done := m.publishing(nodes)
	var wg sync.WaitGroup
	for _, h := range hoppers {
		wg.Go(func() {
			for insist := 0; !t.Failed(); {
				ended := done.Load()
				c, on := h.poll(insist > 3)
				switch {
				case c.Unsettled:
					insist++
					continue
				case len(c.Messages) > 0:
					h.answer(on, c.Messages, c.End)
				case ended:
					return
				default: // parked: what comes next is there soon
					p, err := on.Collect(t.Context(), m.topic, relay.Reading{Reader: h.name + "'s subscription", After: &c.End.ID}, 1)
					if err == nil && len(p.Messages) > 0 {
						m.offer(on, h.name, p.End)
						h.answer(on, p.Messages, p.End)
					}
				}
				insist = 0
			}
		})
	}
	wg.Wait()
	for _, h := range hoppers {
		h.check(wait())
	}
}

// One that names its place needs nothing settled, and gets each message once unless it
// has not got it.
func testInboxHopsByAfter(t *testing.T, m *mailbox) {
	m.keep.Length = int64(m.Rounds) + 1
	nodes := []*InboxNode{m.a, m.Open(t), m.Open(t)}
	h := m.hopper("places", nodes, rand.Uint64())
	wait, done := m.publishing(nodes)
	for !t.Failed() {
		ended := done.Load()
		c, err := h.node().Collect(t.Context(), m.topic, after(h.name, h.last), 1+h.random.IntN(5))
		if err != nil {
			t.Fatal(err)
		}
		if !c.Complete || c.Unsettled || c.Start.ID != h.last {
			t.Fatalf("after %v: starts at %v, complete: %v, unsettled: %v", h.last, c.Start, c.Complete, c.Unsettled)
		}
		if len(c.Messages) == 0 && ended {
			break
		}
		if h.random.IntN(3) == 0 {
			continue // it did not come
		}
		h.polls++
		for _, x := range c.Messages {
			h.times[x.ID.String()]++
			h.last = x.ID
		}
	}
	h.check(wait())
}

// Of many that come for one reader at once, one gets the messages.
func testInboxRace(t *testing.T, m *mailbox) {
	nodes := []*InboxNode{m.a, m.Open(t), m.Open(t)}
	for i := range 20 {
		m.send(fmt.Sprint(i))
		var got, waits atomic.Int32
		var end atomic.Pointer[relay.Position]
		var wg sync.WaitGroup
		for k := range 12 {
			wg.Go(func() {
				c, err := nodes[k%len(nodes)].Collect(t.Context(), m.topic, relay.Reading{Reader: "r"}, 10)
				switch {
				case err != nil:
					t.Errorf("Collect: %v", err)
				case c.Unsettled:
					waits.Add(1)
				case c.Complete && len(c.Messages) == 1:
					got.Add(1)
					end.Store(&c.End)
				}
			})
		}
		wg.Wait()
		if got.Load() != 1 || waits.Load() != 11 {
			t.Fatalf("%d got the message and %d were to wait, want 1 and 11", got.Load(), waits.Load())
		}
		m.settle(nodes[i%len(nodes)], "r", *end.Load(), true)
	}
}
