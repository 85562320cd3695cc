package ringbroker

import "math/bits"

// DType is the type of a tensor's elements (spec/dtypes.json).
type DType uint8

// The dtypes. Go has no F16 and no BF16: [View] gives their bits as uint16.
const (
	BOOL DType = 1 + iota // bool
	U8                    // uint8
	I8                    // int8
	U16                   // uint16
	I16                   // int16
	U32                   // uint32
	I32                   // int32
	U64                   // uint64
	I64                   // int64
	F16                   // IEEE 754 half precision, as uint16
	BF16                  // bfloat16, as uint16
	F32                   // float32
	F64                   // float64
)

// dtypes holds what each dtype is called on the wire and in Go, and its size. The dtype 0 is one that this version does
// not know.
var dtypes = [...]struct {
	name, element string
	size          int
}{
	{"unknown", "", 0}, {"BOOL", "bool", 1}, {"U8", "uint8", 1}, {"I8", "int8", 1}, {"U16", "uint16", 2}, {"I16", "int16", 2},
	{"U32", "uint32", 4}, {"I32", "int32", 4}, {"U64", "uint64", 8}, {"I64", "int64", 8}, {"F16", "uint16", 2},
	{"BF16", "uint16", 2}, {"F32", "float32", 4}, {"F64", "float64", 8},
}

// ParseDType finds a dtype by its name on the wire. Its error is WRONG_DTYPE.
func ParseDType(name string) (DType, error) {
	for d := BOOL; d <= F64; d++ {
		if dtypes[d].name == name {
			return d, nil
		}
	}
	return 0, errorf(CodeWrongDType, "", "%q is no dtype", name)
}

func (d DType) index() DType {
	if d > F64 {
		return 0
	}
	return d
}

// String is the dtype's name on the wire, such as F32.
func (d DType) String() string { return dtypes[d.index()].name }

// Size is the bytes of one element.
func (d DType) Size() int { return dtypes[d.index()].size }

// Bytes is the size of a tensor of this dtype and shape; the empty shape is one element. It is false where the size is
// over 2^53-1, the largest integer of the protocol, or a dim is.
func (d DType) Bytes(shape ...uint64) (uint64, bool) {
	size, tooLarge := uint64(d.Size()), false
	for _, dim := range shape {
		if dim == 0 {
			return 0, true
		}
		high, low := bits.Mul64(size, dim)
		tooLarge = tooLarge || high != 0 || low > maxInt
		size = low
	}
	return size, !tooLarge
}

// maxInt is the largest integer of the protocol.
const maxInt = 1<<53 - 1
