package ringbroker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ringbroker/internal/wire"
)

// Error is the error of this package. Every function that talks of one returns an *Error:
//
//	var e *ringbroker.Error
//	if errors.As(err, &e) && e.Code == ringbroker.CodeUnknownModel { ... }
//	if errors.Is(err, ringbroker.CodeUnknownModel) { ... } // the same
//
// An error that came of a context's end is also that context's error: errors.Is(err, context.DeadlineExceeded).
type Error struct {
	Code       Code
	Text       string        // for people; it may change
	Path       string        // the field that is wrong, such as inputs[1].shape[2], or ""
	RetryAfter time.Duration // the broker's hint, or 0
	// NeededBytes comes with OUTPUT_TOO_LARGE: what one row of that output needs. It is 0 elsewhere.
	NeededBytes int64

	cause error
}

// Error is the code's name, the path and the text.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("ringbroker: " + e.Code.String())
	if e.Path != "" {
		b.WriteString(" at " + e.Path)
	}
	if e.Text != "" {
		b.WriteString(": " + e.Text)
	}
	return b.String()
}

// Is makes errors.Is(err, code) true for the error's own [Code].
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && code == e.Code
}

// Unwrap is what caused the error: a context's error, a system call's, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Retryable says whether the same request may succeed later.
func (e *Error) Retryable() bool { return e.Code.Retryable() }

func errorf(code Code, path, format string, args ...any) *Error {
	return &Error{Code: code, Path: path, Text: fmt.Sprintf(format, args...)}
}

// lost is the error of a connection that ended, or could not be made.
func lost(text string, cause error) *Error {
	if cause != nil {
		text += ": " + cause.Error()
	}
	return &Error{Code: CodeBrokerLost, Text: text, cause: cause}
}

// ended is the error of a call whose context ended; late is its code where that was a deadline.
func ended(ctx context.Context, late Code, text string) *Error {
	code := CodeCancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = late
	}
	return &Error{Code: code, Text: text + ": " + context.Cause(ctx).Error(), cause: joinCause(ctx)}
}

// joinCause is a context's error, and the cause that its owner gave, if it is another.
func joinCause(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != ctx.Err() {
		return errors.Join(ctx.Err(), cause)
	}
	return ctx.Err()
}

// told is an ERROR of the broker's.
func told(f *wire.Failure) *Error {
	e := &Error{Code: Code(f.Code), Text: f.Text, Path: f.Path.Value}
	if !f.Path.Set {
		e.Path = ""
	}
	if f.RetryAfterMS.Set {
		e.RetryAfter = time.Duration(min(f.RetryAfterMS.Value, uint64(24*time.Hour/time.Millisecond))) * time.Millisecond
	}
	if f.Extra.NeededBytes.Set {
		e.NeededBytes = int64(f.Extra.NeededBytes.Value)
	}
	if e.Code == CodeDeadlineExceeded {
		e.cause = context.DeadlineExceeded
	}
	return e
}

// unsendable is a message that the protocol forbids: the caller's fault, found before anything was sent.
func unsendable(e *wire.Error) *Error {
	return &Error{Code: Code(e.Code), Text: e.Text, Path: e.Path}
}

// badAnswer is what the protocol does not allow the broker to send.
func badAnswer(format string, args ...any) *Error {
	return errorf(CodeBadAnswer, "", "the broker's answer is not as the protocol says: "+format, args...)
}
