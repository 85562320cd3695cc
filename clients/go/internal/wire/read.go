package wire

import "unicode/utf8"

// head reads a value's first bytes: its kind, and its integer or the count of what follows. The bytes that follow stay
// unread. At the payload's end, or where it says that more bytes follow than are there, the kind is kindEnd.
func (c *codec) head() (kind, uint64) {
	if c.at >= len(c.b) {
		return kindEnd, 0
	}
	f := forms[c.b[c.at]]
	width := int(f.width)
	if len(c.b)-c.at <= width {
		return kindEnd, 0
	}
	var n uint64
	for _, b := range c.b[c.at+1 : c.at+1+width] {
		n = n<<8 | uint64(b)
	}
	c.at += 1 + width
	if f.signed && n>>(8*width-1) != 0 {
		return kindNegative, 0
	}
	n += uint64(f.n)
	if n > c.room(f.kind) {
		return kindEnd, 0
	}
	return f.kind, n
}

// room is the most that a value of this kind can count in what is left of the payload.
func (c *codec) room(k kind) uint64 {
	left := uint64(len(c.b) - c.at)
	switch k {
	case kindString, kindBinary, kindExt, kindFloat, kindArray:
		return left
	case kindMap:
		return left / 2
	}
	return 1<<64 - 1
}

// take reads n bytes, which head found to be there.
func (c *codec) take(n uint64) []byte {
	b := c.b[c.at : c.at+int(n)]
	c.at += int(n)
	return b
}

// skip reads one value of any kind and whatever it holds, however deep, and says whether it is well formed.
func (c *codec) skip() bool {
	for open := uint64(1); open > 0; open-- {
		switch k, n := c.head(); k {
		case kindEnd, kindReserved:
			return false
		case kindString:
			if !utf8.Valid(c.take(n)) {
				return false
			}
		case kindBinary, kindExt, kindFloat:
			c.take(n)
		case kindArray:
			open += n
		case kindMap:
			open += 2 * n
		}
	}
	return true
}

// isWellFormed says whether a payload is exactly one msgpack value.
func isWellFormed(payload []byte) bool {
	c := codec{b: payload}
	return c.skip() && c.at == len(payload)
}
