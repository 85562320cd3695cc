package wire

// kind is what a msgpack value is, as far as the protocol tells values apart.
type kind uint8

const (
	kindEnd      kind = iota // the payload ends inside the value
	kindReserved             // 0xc1, which no value begins with
	kindNil
	kindFalse
	kindTrue
	kindInt      // an integer of 0 or more
	kindNegative // a smaller one
	kindFloat    // and its bytes
	kindString   // and its bytes
	kindBinary   // and its bytes
	kindExt      // and its type and bytes
	kindArray    // and its items
	kindMap      // and its keys and values
)

// form is how a first byte is read: behind it stand `width` bytes of a big-endian number, to which `n` is added. The
// sum is the integer, or the count of bytes, items or pairs that follow.
type form struct {
	kind   kind
	width  uint8
	n      uint8
	signed bool
}

var forms = makeForms()

func makeForms() (f [256]form) {
	for b := range 0x80 {
		f[b] = form{kind: kindInt, n: uint8(b)}
	}
	for b := range 16 {
		f[0x80+b] = form{kind: kindMap, n: uint8(b)}
		f[0x90+b] = form{kind: kindArray, n: uint8(b)}
	}
	for b := range 32 {
		f[0xa0+b] = form{kind: kindString, n: uint8(b)}
		f[0xe0+b] = form{kind: kindNegative}
	}
	f[0xc0], f[0xc1] = form{kind: kindNil}, form{kind: kindReserved}
	f[0xc2], f[0xc3] = form{kind: kindFalse}, form{kind: kindTrue}
	f[0xca], f[0xcb] = form{kind: kindFloat, n: 4}, form{kind: kindFloat, n: 8}
	for i := range 3 {
		width := uint8(1) << i
		f[0xc4+i] = form{kind: kindBinary, width: width}
		f[0xc7+i] = form{kind: kindExt, width: width, n: 1}
		f[0xd9+i] = form{kind: kindString, width: width}
	}
	for i := range 4 {
		width := uint8(1) << i
		f[0xcc+i] = form{kind: kindInt, width: width}
		f[0xd0+i] = form{kind: kindInt, width: width, signed: true}
	}
	for i := range 5 {
		f[0xd4+i] = form{kind: kindExt, n: 1 + 1<<i}
	}
	for i := range 2 {
		width := uint8(2) << i
		f[0xdc+i] = form{kind: kindArray, width: width}
		f[0xde+i] = form{kind: kindMap, width: width}
	}
	return f
}
