package wire

import "strconv"

// codec reads or writes one payload. The functions that take one are called for each field in the order of
// spec/messages.json; after the first error they do nothing.
type codec struct {
	writing bool
	b       []byte // reading: the payload; writing: the frames so far
	at      int    // reading: the next byte
	err     *Error
	steps   [8]step // where we are; models[0].signature.inputs[0].shape[1] is the deepest place, with 6
	depth   int
}

// step is one part of a path.
type step struct {
	name  string // "" for an item's own fields
	index int    // -1 where there is none
}

func (c *codec) enter(name string) {
	c.steps[c.depth] = step{name, -1}
	c.depth++
}

func (c *codec) leave() { c.depth-- }

// fail notes the first error. It is the only place that allocates, and it ends the frame.
func (c *codec) fail(code uint16, path, text string) {
	if c.err == nil {
		c.err = &Error{code, path, text}
	}
}

// reject notes that the field called name has a value of this kind, which it may not have.
func (c *codec) reject(k kind, name, text string) {
	if k == kindEnd || k == kindReserved {
		c.fail(BadMsgpack, "", "the payload is not exactly one msgpack value")
		return
	}
	c.fail(InvalidField, c.path(name), text)
}

// path is the place of the field called name ("": of the value we are in).
func (c *codec) path(name string) string {
	path := ""
	for _, s := range c.steps[:c.depth] {
		path = join(path, s.name)
		if s.index >= 0 {
			path += "[" + strconv.Itoa(s.index) + "]"
		}
	}
	return join(path, name)
}

func join(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}

// isNil says whether the next value is nil, and reads it if so.
func (c *codec) isNil() bool {
	if c.at >= len(c.b) || c.b[c.at] != 0xc0 {
		return false
	}
	c.at++
	return true
}
