package wire

import (
	"encoding/binary"
	"math"
)

// appendHead appends a count or an integer in its shortest form: in the first byte up to `inside`, else behind one of
// the bytes of `wide`, for 1, 2, 4 and 8 bytes (0: there is no such form).
func appendHead(b []byte, n uint64, first byte, inside uint64, wide [4]byte) []byte {
	switch {
	case n <= inside:
		return append(b, first|byte(n))
	case n <= math.MaxUint8 && wide[0] != 0:
		return append(b, wide[0], byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, wide[1]), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, wide[2]), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, wide[3]), n)
}

func appendUint(b []byte, n uint64) []byte {
	return appendHead(b, n, 0x00, 0x7f, [4]byte{0xcc, 0xcd, 0xce, 0xcf})
}

func appendString(b []byte, s string) []byte {
	return append(appendHead(b, uint64(len(s)), 0xa0, 31, [4]byte{0xd9, 0xda, 0xdb}), s...)
}

func appendArray(b []byte, items int) []byte {
	return appendHead(b, uint64(items), 0x90, 15, [4]byte{0, 0xdc, 0xdd})
}

func appendMap(b []byte, pairs int) []byte {
	return appendHead(b, uint64(pairs), 0x80, 15, [4]byte{0, 0xde, 0xdf})
}
