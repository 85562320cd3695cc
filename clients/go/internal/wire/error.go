package wire

// The codes of what can be wrong with a frame (spec/errors.json). Each of them ends the session.
const (
	FrameTooLarge  = 1001
	BadMsgpack     = 1002
	UnknownMessage = 1003
	InvalidField   = 1004
)

// Error says what is wrong with a frame. It is the only error of this package.
type Error struct {
	Code uint16 // one of the four above
	Path string // the field, such as inputs[1].shape[2]; "" where the error belongs to none
	Text string // for people
}

func (e *Error) Error() string {
	if e.Path == "" {
		return e.Text
	}
	return e.Path + ": " + e.Text
}
