package wire

import "math"

// key is one known key of a map of type T.
type key[T any] struct {
	name  string
	isSet func(*T) bool // nil for a key that is required
	code  func(c *codec, name string, m *T)
}

// codeMap codes a map with known keys. Unknown ones are ignored, with whatever they hold.
func codeMap[T any](c *codec, name string, m *T, keys []key[T]) {
	if c.writing {
		writeMap(c, name, m, keys)
		return
	}
	n := c.openMap(name, 0, math.MaxInt)
	var clean T
	*m = clean
	seen := 0
	c.enter(name)
	for i := 0; i < n && c.err == nil; i++ {
		found, ok := c.readString("")
		if !ok {
			break
		}
		at := indexOf(keys, found)
		if at < 0 {
			c.skipUnknown()
			continue
		}
		seen |= 1 << at
		keys[at].code(c, keys[at].name, m)
	}
	c.leave()
	if c.err == nil && !hasRequired(keys, seen) {
		c.reject(kindMap, name, "a required key is missing")
	}
}

func writeMap[T any](c *codec, name string, m *T, keys []key[T]) {
	n := 0
	for _, k := range keys {
		if k.isSet == nil || k.isSet(m) {
			n++
		}
	}
	c.openMap(name, n, math.MaxInt)
	c.enter(name)
	for _, k := range keys {
		if c.err == nil && (k.isSet == nil || k.isSet(m)) {
			c.b = appendString(c.b, k.name)
			k.code(c, k.name, m)
		}
	}
	c.leave()
}

func indexOf[T any](keys []key[T], name []byte) int {
	for i := range keys {
		if string(name) == keys[i].name {
			return i
		}
	}
	return -1
}

func hasRequired[T any](keys []key[T], seen int) bool {
	for i, k := range keys {
		if k.isSet == nil && seen&(1<<i) == 0 {
			return false
		}
	}
	return true
}

func (c *codec) skipUnknown() {
	if !c.skip() {
		c.fail(BadMsgpack, "", "the payload is not exactly one msgpack value")
	}
}

// Options is a map of which this version of the protocol knows no key: `options` and `extra`.
type Options struct{}

func codeOptions(c *codec, name string, o *Options) { codeMap(c, name, o, nil) }
