package texto

import (
	"math"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/pkg/relay"
)

// A place that fits is read back from the id.
func TestPlaceID(t *testing.T) {
	now := time.Now()
	for _, at := range []relay.ID{
		{Millis: 1}, {Seq: 1}, {Millis: 1_700_000_000_000, Seq: 3},
		{Millis: noPlace - 1, Seq: math.MaxUint32}, {Millis: 5, Seq: 1<<seqLow - 1}, {Millis: 5, Seq: 1 << seqLow},
	} {
		id := placeID(at, now)
		if id.Version() != 8 || id.Variant() != uuid.RFC4122 {
			t.Errorf("%v: %v has version %v and variant %v", at, id, id.Version(), id.Variant())
		}
		if got, ok := placeOf(id); !ok || got != at {
			t.Errorf("%v is read back as %v, %v", at, got, ok)
		}
		if again := placeID(at, now); again != id {
			t.Errorf("%v has two ids", at)
		}
		if other := placeID(at, now.Add(1)); other == id {
			t.Errorf("%v: a message sent at another time has the same id", at)
		}
	}
}

// One that does not fit still makes an id that tells messages apart, which names
// no place.
func TestPlaceIDHashed(t *testing.T) {
	now := time.Now()
	seen := map[uuid.UUID]relay.ID{}
	for _, at := range []relay.ID{
		{Millis: noPlace}, {Millis: noPlace, Seq: 1}, {Millis: math.MaxUint64}, {Millis: math.MaxUint64, Seq: math.MaxUint64},
		{Seq: math.MaxUint32 + 1}, {Seq: math.MaxUint64}, {Millis: 1, Seq: math.MaxUint32 + 1},
	} {
		for _, sent := range []time.Time{now, now.Add(1), {}} {
			id := placeID(at, sent)
			if id.Version() != 8 || id.Variant() != uuid.RFC4122 {
				t.Errorf("%v: %v has version %v and variant %v", at, id, id.Version(), id.Variant())
			}
			if other, ok := seen[id]; ok {
				t.Errorf("%v and %v have one id", at, other)
			}
			seen[id] = at
			if got, ok := placeOf(id); ok {
				t.Errorf("%v is read back as %v", at, got)
			}
		}
	}
}

// Ids that hold no place are told as such: other versions, other variants, the
// zero place.
func TestPlaceOfOthers(t *testing.T) {
	for _, id := range []uuid.UUID{{}, uuid.Max, newID(), uuid.MustParse(idOne), placeID(relay.ID{}, time.Now()),
		uuid.MustParse("018bcfe5-687b-8000-c000-a8c2f2e2732c"), uuid.MustParse("018bcfe5-687b-7000-8000-a8c2f2e2732c")} {
		if at, ok := placeOf(id); ok {
			t.Errorf("%v is read as %v", id, at)
		}
	}
}

// What a client names as its last message counts, older or newer than its token,
// and with it a moment at which that message was the last one.
func TestSince(t *testing.T) {
	token := relay.Position{Epoch: 3, ID: relay.ID{Millis: 5000, Seq: 2}, At: time.UnixMilli(6000)}
	for _, c := range []struct {
		name string
		last uuid.UUID
		want relay.Position
	}{
		{"none", uuid.UUID{}, token},
		{"random", newID(), token},
		{"the same", placeID(token.ID, time.Now()), token},
		{"older", placeID(relay.ID{Millis: 4000, Seq: 9}, time.Now()), relay.Position{Epoch: 3, ID: relay.ID{Millis: 4000, Seq: 9}, At: time.UnixMilli(4000)}},
		{"newer", placeID(relay.ID{Millis: 9000}, time.Now()), relay.Position{Epoch: 3, ID: relay.ID{Millis: 9000}, At: time.UnixMilli(6000)}},
		{"hashed", placeID(relay.ID{Seq: math.MaxUint64}, time.Now()), token},
	} {
		if got := since(token, tokenTime, c.last); got.Epoch != c.want.Epoch || got.ID != c.want.ID || !got.At.Equal(c.want.At) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Beside a token that came when its history had no message yet, a message from
// before is of a history that is lost.
func TestSinceOfALostHistory(t *testing.T) {
	token := relay.Position{Epoch: 3, At: time.UnixMilli(6000)}
	issued := time.UnixMilli(7000)
	before, after := relay.ID{Millis: 6999}, relay.ID{Millis: 7000}
	if got := since(token, issued, placeID(before, time.Now())); got != token {
		t.Errorf("a message from before the token: %v, want %v", got, token)
	}
	if got := since(token, issued, placeID(after, time.Now())); got.ID != after {
		t.Errorf("a message from after the token: %v, want %v", got.ID, after)
	}
}
