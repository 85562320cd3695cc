package wire

import "unicode/utf8"

// MaxInt is the largest integer of the protocol: JavaScript reads no larger one exactly.
const MaxInt = 1<<53 - 1

func codeUint(c *codec, name string, v *uint64, least, most uint64) {
	if c.err != nil {
		return
	}
	k, n := kindInt, *v
	if !c.writing {
		k, n = c.head()
	}
	if k != kindInt || n < least || n > most {
		c.reject(k, name, "not an integer in the range of the field")
		return
	}
	if c.writing { // and not to *v: the answer may be looked at beside it
		c.b = appendUint(c.b, n)
		return
	}
	*v = n
}

func codeU53(c *codec, name string, v *uint64)   { codeUint(c, name, v, 0, MaxInt) }
func codeCount(c *codec, name string, v *uint64) { codeUint(c, name, v, 1, MaxInt) }

func codeU16(c *codec, name string, v *uint16) {
	n := uint64(*v)
	codeUint(c, name, &n, 0, 1<<16-1)
	if !c.writing {
		*v = uint16(n)
	}
}

func codeBool(c *codec, name string, v *bool) {
	if c.err != nil {
		return
	}
	if c.writing {
		b := byte(0xc2)
		if *v {
			b = 0xc3
		}
		c.b = append(c.b, b)
		return
	}
	k, _ := c.head()
	if k != kindFalse && k != kindTrue {
		c.reject(k, name, "not a bool")
		return
	}
	*v = k == kindTrue
}

func codeName(c *codec, name string, v *string)  { codeString(c, name, v, 128) }
func codeText(c *codec, name string, v *string)  { codeString(c, name, v, 4096) }
func codeDType(c *codec, name string, v *string) { codeString(c, name, v, 16) }

func codeString(c *codec, name string, v *string, maxChars int) {
	if c.err != nil {
		return
	}
	if c.writing {
		if !utf8.ValidString(*v) || utf8.RuneCountInString(*v) > maxChars {
			c.reject(kindString, name, "not UTF-8, or too long a string")
			return
		}
		c.b = appendString(c.b, *v)
		return
	}
	b, ok := c.readString(name)
	if !ok {
		return
	}
	if utf8.RuneCount(b) > maxChars {
		c.reject(kindString, name, "too long a string")
		return
	}
	if string(b) != *v { // compares without allocating: a string that comes again is not made anew
		*v = string(b)
	}
}

// readString reads a string of any length. Its bytes are the payload's.
func (c *codec) readString(name string) ([]byte, bool) {
	k, n := c.head()
	if k != kindString {
		c.reject(k, name, "not a string")
		return nil, false
	}
	b := c.take(n)
	if !utf8.Valid(b) {
		c.fail(BadMsgpack, "", "a string is not UTF-8")
		return nil, false
	}
	return b, true
}
