package conn

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func TestFrameLengths(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 1<<16 - 1, 1 << 16, 1<<16 + 1} {
		payload := bytes.Repeat([]byte{'x'}, n)
		before := []byte("before")
		b := AppendFrame(before, OpBinary, payload)
		if !bytes.HasPrefix(b, before) {
			t.Errorf("%d bytes: what stood in the buffer has changed", n)
		}
		if over := len(b) - len(before) - n; over > maxHeader {
			t.Errorf("%d bytes: a header of %d, more than maxHeader", n, over)
		}
		f, err := readFrame(bytes.NewReader(b[len(before):])) // checks the header
		if err != nil || f.op != OpBinary || !bytes.Equal(f.payload, payload) {
			t.Errorf("%d bytes: read back %v, %v", n, f, err)
		}
	}
}

func TestCloseReasonIsCut(t *testing.T) {
	for _, n := range []int{0, 1, 122, 123, 124, 1000} {
		reason := strings.Repeat("r", n)
		f, err := readFrame(bytes.NewReader(appendClose(nil, CodeTryLater, reason)))
		if err != nil {
			t.Errorf("reason of %d bytes: %v", n, err)
			continue
		}
		if code := binary.BigEndian.Uint16(f.payload); code != CodeTryLater {
			t.Errorf("reason of %d bytes: code %d", n, code)
		}
		if want := reason[:min(n, 123)]; string(f.payload[2:]) != want {
			t.Errorf("reason of %d bytes: %d came through, want %d", n, len(f.payload)-2, len(want))
		}
	}
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range reasonCount {
		name := r.String()
		if name == "" || seen[name] {
			t.Errorf("reason %d has no name of its own: %q", r, name)
		}
		seen[name] = true
	}
}
