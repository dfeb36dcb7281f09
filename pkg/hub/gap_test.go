package hub

import (
	"fmt"
	"slices"
	"testing"

	"parley/pkg/relay"
)

// wary is a listener that notes gaps among its messages.
type wary struct{ listener }

func (w *wary) Gap(p relay.Position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, fmt.Sprintf("gap up to %v of %d", p.ID, p.Epoch))
}

// A gap is told in the order of messages, to those who want to know, on every
// loop that has subscribers of the topic and nowhere else.
func TestGap(t *testing.T) {
	f := newFixture(t)
	var told, others []*wary
	var deaf []*listener
	for _, loop := range f.loops {
		a, b, c := &wary{listener{loop: loop}}, &wary{listener{loop: loop}}, &listener{loop: loop}
		f.subscribe(t, "room/a", a)
		f.subscribe(t, "room/a", c)
		f.subscribe(t, "room/b", b)
		told, others, deaf = append(told, a), append(others, b), append(deaf, c)
	}
	f.send("room/a", "1")
	f.Gap("room/a", relay.Position{Epoch: 9, ID: relay.ID{Millis: 4, Seq: 2}})
	f.Gap("room/nobody", relay.Position{})
	f.send("room/a", "2")
	f.settle()
	for i := range told {
		if got, want := told[i].bodies(), []string{"1", "gap up to 4-2 of 9", "2"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if got, want := deaf[i].bodies(), []string{"1", "2"}; !slices.Equal(got, want) {
			t.Errorf("one who does not care got %q, want %q", got, want)
		}
		if got := others[i].bodies(); len(got) != 0 {
			t.Errorf("one of another topic got %q", got)
		}
	}
}
