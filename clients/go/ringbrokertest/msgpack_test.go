package ringbrokertest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
)

// A second, plain msgpack, for values as encoding/json has them (with UseNumber), so that the codec is not its own
// judge.

func pack(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, 0xc0)
	case bool:
		if v {
			return append(b, 0xc3)
		}
		return append(b, 0xc2)
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n))
		}
		return binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(must(v.Float64())))
	case string:
		return append(binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(len(v))), v...)
	case []any:
		b = binary.BigEndian.AppendUint32(append(b, 0xdd), uint32(len(v)))
		for _, item := range v {
			b = pack(b, item)
		}
		return b
	case map[string]any:
		b = binary.BigEndian.AppendUint32(append(b, 0xdf), uint32(len(v)))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			b = pack(pack(b, key), v[key])
		}
		return b
	}
	panic(fmt.Sprintf("%T", v))
}

func unpack(b []byte) (v any, rest []byte) {
	first, b := b[0], b[1:]
	number := func(width int) (n uint64) {
		for _, c := range b[:width] {
			n = n<<8 | uint64(c)
		}
		b = b[width:]
		return n
	}
	integer := func(n int64) any { return json.Number(strconv.FormatInt(n, 10)) }
	text := func(n uint64) any {
		s := string(b[:n])
		b = b[n:]
		return s
	}
	items := func(n uint64) any {
		all := make([]any, n)
		for i := range all {
			all[i], b = unpack(b)
		}
		return all
	}
	pairs := func(n uint64) any {
		all := make(map[string]any)
		for range n {
			var key, value any
			key, b = unpack(b)
			value, b = unpack(b)
			all[key.(string)] = value
		}
		return all
	}
	switch {
	case first < 0x80:
		v = integer(int64(first))
	case first < 0x90:
		v = pairs(uint64(first & 15))
	case first < 0xa0:
		v = items(uint64(first & 15))
	case first < 0xc0:
		v = text(uint64(first & 31))
	case first == 0xc0:
	case first == 0xc2, first == 0xc3:
		v = first == 0xc3
	case first >= 0xcc && first <= 0xcf:
		v = integer(int64(number(1 << (first - 0xcc))))
	case first >= 0xd9 && first <= 0xdb:
		v = text(number(1 << (first - 0xd9)))
	case first == 0xdc, first == 0xdd:
		v = items(number(2 << (first - 0xdc)))
	case first == 0xde, first == 0xdf:
		v = pairs(number(2 << (first - 0xde)))
	default:
		panic(fmt.Sprintf("a value that begins with %#x", first))
	}
	return v, b
}
