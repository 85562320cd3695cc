package ringbrokertest

import (
	"math/bits"

	"ringbroker"
	"ringbroker/internal/wire"
)

const (
	pageBytes = 4096
	maxBytes  = 1<<53 - 1
)

// layOut places planes behind the header page, each at the next page, and returns the segment's size (spec section 6).
// It is false where that would be over 2^53-1.
func layOut(slots uint64, planes []wire.Plane) (bytes uint64, ok bool) {
	bytes = pageBytes
	for i := range planes {
		p := &planes[i]
		dtype, err := ringbroker.ParseDType(p.DType)
		if err != nil {
			return 0, false
		}
		if p.Stride, ok = dtype.Bytes(p.Sample...); !ok {
			return 0, false
		}
		p.Offset = bytes
		high, size := bits.Mul64(slots, p.Stride)
		if high != 0 || size > maxBytes {
			return 0, false
		}
		bytes = (bytes + size + pageBytes - 1) / pageBytes * pageBytes
		if bytes > maxBytes {
			return 0, false
		}
	}
	return bytes, true
}
