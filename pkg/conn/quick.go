package conn

import "encoding/binary"

// quick takes a message from the input if it is one that needs no library: whole, in
// one frame (RFC 6455, section 5.2), and within the limit; almost all are. It waits
// until there is input. Without a message (it is nil; an empty one is not) and without
// an error, what comes is for the library. The message is part of the first n bytes of
// the input, which are to be consumed when it has been handled. Only for the reader,
// between messages.
func (c *Conn) quick() (message []byte, n int, err error) {
	if !c.given.between() {
		return nil, 0, nil
	}
	if err := c.await(); err != nil {
		return nil, 0, err
	}
	const (
		fin    = 0x80
		masked = 0x80
		short  = 2 + 4 // the header of a short frame, with its mask
		medium = 4 + 4
	)
	b := c.in
	if len(b) < short || b[0] != fin|byte(OpText) && b[0] != fin|byte(OpBinary) || b[1]&masked == 0 {
		return nil, 0, nil
	}
	size, head := int(b[1]&^masked), short
	switch {
	case size == 126 && len(b) >= medium:
		size, head = int(binary.BigEndian.Uint16(b[2:])), medium
		if size < 126 {
			return nil, 0, nil
		}
	case size >= 126:
		return nil, 0, nil
	}
	if limit := c.group.cfg.MaxFrameBytes; len(b) < head+size || limit > 0 && size > limit {
		return nil, 0, nil
	}
	data := b[head : head+size : head+size]
	unmask(data, [4]byte(b[head-4:head]))
	c.kind = Opcode(b[0] &^ fin)
	return data, head + size, nil
}

// unmask undoes a client's masking (RFC 6455, section 5.3).
func unmask(data []byte, key [4]byte) {
	wide := uint64(binary.LittleEndian.Uint32(key[:]))
	wide |= wide << 32
	for len(data) >= 8 {
		binary.LittleEndian.PutUint64(data, binary.LittleEndian.Uint64(data)^wide)
		data = data[8:]
	}
	for i := range data {
		data[i] ^= key[i&3]
	}
}
