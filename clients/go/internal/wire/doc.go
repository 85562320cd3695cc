// Package wire is the ringbroker protocol as bytes: messages and frames, with no socket in it (spec/PROTOCOL.md
// sections 3 to 9, spec/messages.json).
//
// Every message and every type of spec/messages.json has one function that names its fields in their order. The same
// function reads and writes, so the two cannot disagree; both enforce the limits of the table. Garbage is decoded or
// gives an *Error with one of four codes, and nothing else. No length in a frame makes the decoder reserve memory for
// what is not there.
package wire
