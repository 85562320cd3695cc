package wire

import (
	"maps"
	"slices"
)

// Opt is a value that may be nil on the wire, or left out of a map.
type Opt[T any] struct {
	Value T
	Set   bool
}

// Some is the Opt that holds v.
func Some[T any](v T) Opt[T] { return Opt[T]{v, true} }

func codeOpt[T any](c *codec, name string, o *Opt[T], value func(*codec, string, *T)) {
	if c.err != nil {
		return
	}
	if c.writing && !o.Set {
		c.b = append(c.b, 0xc0)
		return
	}
	if !c.writing {
		o.Set = !c.isNil()
	}
	if o.Set {
		value(c, name, &o.Value)
	}
}

// codeList codes a list. A decoded one reuses the slice's memory, and its items' own.
func codeList[T any](c *codec, name string, s *[]T, maxItems int, item func(*codec, string, *T)) {
	n := c.openArray(name, len(*s), maxItems)
	if c.err != nil {
		return
	}
	if !c.writing {
		*s = (*s)[:0]
	}
	c.enter(name)
	for i := 0; i < n && c.err == nil; i++ {
		c.steps[c.depth-1].index = i
		if !c.writing {
			*s = extend(*s)
		}
		item(c, "", &(*s)[i])
	}
	c.leave()
}

// extend makes a slice one longer. What stood there before is kept, so that its memory is reused.
func extend[T any](s []T) []T {
	if len(s) < cap(s) {
		return s[:len(s)+1]
	}
	var zero T
	return append(s, zero)
}

// openArray codes an array's head and returns how many items follow.
func (c *codec) openArray(name string, n, most int) int {
	if c.err != nil {
		return 0
	}
	k, count := kindArray, uint64(n)
	if !c.writing {
		k, count = c.head()
	}
	if k != kindArray || count > uint64(most) {
		c.reject(k, name, "not an array, or one of too many items")
		return 0
	}
	if c.writing {
		c.b = appendArray(c.b, n)
	}
	return int(count)
}

// openTuple codes a tuple's head and enters it. The caller leaves it.
func (c *codec) openTuple(name string, fields int) {
	if n := c.openArray(name, fields, fields); c.err == nil && n != fields {
		c.reject(kindArray, name, "too few fields")
	}
	c.enter(name)
}

// openMap codes a map's head and returns how many pairs follow.
func (c *codec) openMap(name string, n, most int) int {
	if c.err != nil {
		return 0
	}
	k, count := kindMap, uint64(n)
	if !c.writing {
		k, count = c.head()
	}
	if k != kindMap || count > uint64(most) {
		c.reject(k, name, "not a map, or one of too many keys")
		return 0
	}
	if c.writing {
		c.b = appendMap(c.b, n)
	}
	return int(count)
}

// codeDict codes a map from names to values of one type, in the order of its keys. What is wrong inside is told as its
// own path.
func codeDict[T any](c *codec, name string, m *map[string]T, maxItems int, value func(*codec, string, *T)) {
	n := c.openMap(name, len(*m), maxItems)
	if c.err != nil {
		return
	}
	c.enter(name)
	if c.writing {
		for _, key := range slices.Sorted(maps.Keys(*m)) {
			v := (*m)[key]
			codeName(c, "", &key)
			value(c, "", &v)
		}
	} else {
		*m = make(map[string]T)
		for i := 0; i < n && c.err == nil; i++ {
			var key string
			var v T
			codeName(c, "", &key)
			value(c, "", &v)
			(*m)[key] = v
		}
	}
	c.leave()
}
