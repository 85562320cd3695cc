package ringbroker

import "strconv"

// Code is the public and stable part of an [Error]: the same number and name in every language (spec/errors.json). A
// Code is itself an error, so that errors.Is(err, ringbroker.CodeUnknownModel) works.
type Code uint16

// The codes of the protocol. Those of the ranges 3101 to 3199 and 6101 to 6199 are printed by the broker command and
// never reach a client.
const (
	CodeFrameTooLarge      Code = 1001 // a frame's length is over 65536 bytes
	CodeBadMsgpack         Code = 1002 // a frame's payload is not exactly one msgpack value: empty, truncated, trailing bytes, an invalid byte, invalid UTF-8, or nested too deeply
	CodeUnknownMessage     Code = 1003 // the payload is not an array, or its first element is not the number of a message that this side receives
	CodeInvalidField       Code = 1004 // too few or too many fields, or a field of the wrong type or out of its range; the path names it
	CodeVersionUnsupported Code = 1005 // the protocol's major version in HELLO is not one that the broker speaks
	CodeUnexpectedMessage  Code = 1006 // a message out of order: anything before HELLO, a second HELLO, an ATTACHED for a ring that does not wait for one
	CodeDuplicateID        Code = 1007 // the id belongs to a request of this session that is still in flight
	CodeHandshakeTimeout   Code = 1008 // no complete HELLO came in time

	CodeUnknownRing      Code = 2001 // this session has no such ring
	CodeRingNotAttached  Code = 2002 // an INFER came before the ring's ATTACHED
	CodeTooManyRows      Code = 2003 // more rows than the ring's max_rows
	CodeRowsOutOfRange   Code = 2004 // slot + rows is past the ring's end
	CodeRowsInFlight     Code = 2005 // a row belongs to another request that is still in flight
	CodeWrongTensorCount Code = 2006 // not one descriptor for each plane of that direction
	CodeWrongDType       Code = 2007 // a descriptor's dtype is unknown or not the plane's
	CodeWrongRank        Code = 2008 // a descriptor's shape has another number of dims than [rows, *sample]
	CodeWrongDim         Code = 2009 // a dim of a descriptor's shape differs from what the plane, the rows or an equally named dim says, or is over its maximum
	CodeWrongOffset      Code = 2010 // a descriptor's offset is not where its plane's row begins
	CodeAttachFailed     Code = 2011 // the client could not open or map the segment; it says so in ATTACHED
	CodeLeaseReleased    Code = 2012 // a lease was used or released after its release
	CodeLeaseBusy        Code = 2013 // a lease was used while its last request is still in flight
	CodeUniformMismatch  Code = 2014 // the rows of a request differ in an input that the operator declared uniform
	CodeInvalidBool      Code = 2015 // a byte of a BOOL input is neither 0 nor 1

	CodeUnknownModel       Code = 3001 // the broker serves no model of that name
	CodeUnknownVersion     Code = 3002 // the model has no such version
	CodeUnknownDim         Code = 3003 // OPEN gives a maximum for a dim that the model does not have
	CodeMaximumMissing     Code = 3004 // OPEN gives no maximum for a dim that the model leaves open
	CodeMaximumTooLarge    Code = 3005 // OPEN's maximum is 0, or over the model's own
	CodeUnknownPool        Code = 3006 // HELLO names a pool that the broker does not have
	CodeWrongPool          Code = 3007 // the model is in another pool than this connection; connect again with that pool in the options of HELLO
	CodeModelNotFound      Code = 3101 // the model's file does not exist or cannot be read, or the factory's module or name does not exist
	CodeModelFormatUnknown Code = 3102 // the file is of no kind that the broker loads
	CodeModelInvalid       Code = 3103 // the file is corrupt, or was made for another version of its runtime
	CodeFactoryFailed      Code = 3104 // the factory raised, or returned something that is not callable
	CodeSignatureInvalid   Code = 3105 // the model's inputs and outputs are not declared, are declared wrongly, or use what the broker cannot serve
	CodeSignatureMismatch  Code = 3106 // a trial run of the model did not give the outputs that its signature declares
	CodeInputModified      Code = 3107 // the model writes into its inputs, which are the client's memory
	CodeZeroCopyImpossible Code = 3108 // a result of the model must be copied, and the operator requires that none is
	CodePickleRefused      Code = 3109 // the file is a pickled module, which runs the code it holds when it is loaded, and the operator did not allow it
	CodeRuntimeMissing     Code = 3110 // a package that runs models of this kind is not installed
	CodeConfigInvalid      Code = 3111 // what the operator says, in the broker's file, a model.toml or a flag, has an unknown key, a value of the wrong type, or contradicts itself or a model's file

	CodeDeadlineExceeded   Code = 4001 // the deadline passed before the request was run
	CodeCancelled          Code = 4002 // the request was cancelled, or its ring closed, before it was run
	CodeSHMFull            Code = 4003 // no room for the ring now: /dev/shm, or what all rings together may have, is used up
	CodeRingTooLarge       Code = 4004 // the ring would be larger than limits.segment_bytes
	CodeTooManySlots       Code = 4005 // OPEN asks for more slots than limits.slots
	CodeTooManyRings       Code = 4006 // the session has limits.rings rings already
	CodeTooManyConnections Code = 4007 // the broker has as many connections as it takes
	CodeAcquireTimeout     Code = 4008 // no adjacent free rows became free in time
	CodeTimeout            Code = 4009 // the call's own timeout passed before its answer came
	CodeSHMUnavailable     Code = 4010 // /dev/shm is missing, read-only or closed to the broker

	CodeModelFailed      Code = 5001 // the model raised; the text names the type of what it raised
	CodeOutputMismatch   Code = 5002 // the model gave outputs of another number, dtype or shape than its signature says
	CodeOutputTooLarge   Code = 5003 // an output whose size depends on values is larger than its plane; extra.needed_bytes is what one row of it needs
	CodeExecutionTimeout Code = 5004 // the model ran longer than the operator allows, and its worker was ended with the requests that it had; told in the WELCOME of a resume

	CodeBrokerLost       Code = 6001 // the connection ended, or could not be made; the next call connects again
	CodeClientClosed     Code = 6002 // the client or the ring was closed by its owner
	CodeNotSupported     Code = 6003 // the protocol reserves this, and this broker does not have it; the path names it
	CodeBadAnswer        Code = 6004 // the broker sent what the protocol does not allow; the client closes the connection
	CodeResumeRefused    Code = 6005 // the resume token is unknown, or its session was closed or kept for too long; connect without it and open the rings anew
	CodeSignatureChanged Code = 6006 // the ring was opened for another signature, max_rows or statefulness than the model has now, or the model is gone; open a new ring
	CodePeerRefused      Code = 6007 // the broker does not serve the user that the client runs as
	CodeSocketInUse      Code = 6101 // a live broker holds the socket
	CodeSocketInvalid    Code = 6102 // the socket's path is too long, not a socket, or cannot be made
	CodeLoaderDied       Code = 6103 // the process that loads the models ended without an answer; the text says how, and at which model
)

// ErrBrokerLost is the error of every call whose connection ended, or could not be made. The next call connects again.
var ErrBrokerLost error = CodeBrokerLost

// codes says what each code is called and whether the same request may succeed later.
var codes = map[Code]struct {
	name      string
	retryable bool
}{
	CodeFrameTooLarge:      {"FRAME_TOO_LARGE", false},
	CodeBadMsgpack:         {"BAD_MSGPACK", false},
	CodeUnknownMessage:     {"UNKNOWN_MESSAGE", false},
	CodeInvalidField:       {"INVALID_FIELD", false},
	CodeVersionUnsupported: {"VERSION_UNSUPPORTED", false},
	CodeUnexpectedMessage:  {"UNEXPECTED_MESSAGE", false},
	CodeDuplicateID:        {"DUPLICATE_ID", false},
	CodeHandshakeTimeout:   {"HANDSHAKE_TIMEOUT", true},
	CodeUnknownRing:        {"UNKNOWN_RING", false},
	CodeRingNotAttached:    {"RING_NOT_ATTACHED", false},
	CodeTooManyRows:        {"TOO_MANY_ROWS", false},
	CodeRowsOutOfRange:     {"ROWS_OUT_OF_RANGE", false},
	CodeRowsInFlight:       {"ROWS_IN_FLIGHT", false},
	CodeWrongTensorCount:   {"WRONG_TENSOR_COUNT", false},
	CodeWrongDType:         {"WRONG_DTYPE", false},
	CodeWrongRank:          {"WRONG_RANK", false},
	CodeWrongDim:           {"WRONG_DIM", false},
	CodeWrongOffset:        {"WRONG_OFFSET", false},
	CodeAttachFailed:       {"ATTACH_FAILED", false},
	CodeLeaseReleased:      {"LEASE_RELEASED", false},
	CodeLeaseBusy:          {"LEASE_BUSY", false},
	CodeUniformMismatch:    {"UNIFORM_MISMATCH", false},
	CodeInvalidBool:        {"INVALID_BOOL", false},
	CodeUnknownModel:       {"UNKNOWN_MODEL", false},
	CodeUnknownVersion:     {"UNKNOWN_VERSION", false},
	CodeUnknownDim:         {"UNKNOWN_DIM", false},
	CodeMaximumMissing:     {"MAXIMUM_MISSING", false},
	CodeMaximumTooLarge:    {"MAXIMUM_TOO_LARGE", false},
	CodeUnknownPool:        {"UNKNOWN_POOL", false},
	CodeWrongPool:          {"WRONG_POOL", false},
	CodeModelNotFound:      {"MODEL_NOT_FOUND", false},
	CodeModelFormatUnknown: {"MODEL_FORMAT_UNKNOWN", false},
	CodeModelInvalid:       {"MODEL_INVALID", false},
	CodeFactoryFailed:      {"FACTORY_FAILED", false},
	CodeSignatureInvalid:   {"SIGNATURE_INVALID", false},
	CodeSignatureMismatch:  {"SIGNATURE_MISMATCH", false},
	CodeInputModified:      {"INPUT_MODIFIED", false},
	CodeZeroCopyImpossible: {"ZERO_COPY_IMPOSSIBLE", false},
	CodePickleRefused:      {"PICKLE_REFUSED", false},
	CodeRuntimeMissing:     {"RUNTIME_MISSING", false},
	CodeConfigInvalid:      {"CONFIG_INVALID", false},
	CodeDeadlineExceeded:   {"DEADLINE_EXCEEDED", false},
	CodeCancelled:          {"CANCELLED", false},
	CodeSHMFull:            {"SHM_FULL", true},
	CodeRingTooLarge:       {"RING_TOO_LARGE", false},
	CodeTooManySlots:       {"TOO_MANY_SLOTS", false},
	CodeTooManyRings:       {"TOO_MANY_RINGS", false},
	CodeTooManyConnections: {"TOO_MANY_CONNECTIONS", true},
	CodeAcquireTimeout:     {"ACQUIRE_TIMEOUT", true},
	CodeTimeout:            {"TIMEOUT", false},
	CodeSHMUnavailable:     {"SHM_UNAVAILABLE", false},
	CodeModelFailed:        {"MODEL_FAILED", false},
	CodeOutputMismatch:     {"OUTPUT_MISMATCH", false},
	CodeOutputTooLarge:     {"OUTPUT_TOO_LARGE", false},
	CodeExecutionTimeout:   {"EXECUTION_TIMEOUT", false},
	CodeBrokerLost:         {"BROKER_LOST", true},
	CodeClientClosed:       {"CLIENT_CLOSED", false},
	CodeNotSupported:       {"NOT_SUPPORTED", false},
	CodeBadAnswer:          {"BAD_ANSWER", false},
	CodeResumeRefused:      {"RESUME_REFUSED", false},
	CodeSignatureChanged:   {"SIGNATURE_CHANGED", false},
	CodePeerRefused:        {"PEER_REFUSED", false},
	CodeSocketInUse:        {"SOCKET_IN_USE", false},
	CodeSocketInvalid:      {"SOCKET_INVALID", false},
	CodeLoaderDied:         {"LOADER_DIED", false},
}

// ranges names what an unknown code of a thousand is about.
var ranges = map[Code]string{1: "PROTOCOL", 2: "RING", 3: "MODEL", 4: "CAPACITY", 5: "EXECUTION", 6: "LIFECYCLE"}

// String is the code's name, such as UNKNOWN_MODEL. A code that this version does not know is named by its range, such
// as CAPACITY_4711.
func (c Code) String() string {
	if known, ok := codes[c]; ok {
		return known.name
	}
	name, ok := ranges[c/1000]
	if !ok {
		name = "CODE"
	}
	return name + "_" + strconv.Itoa(int(c))
}

// Error is String: a Code is the error that every [Error] with that code is.
func (c Code) Error() string { return c.String() }

// Retryable says whether the same request may succeed later.
func (c Code) Retryable() bool { return codes[c].retryable }

// endsSession says whether the broker closes the connection behind an ERROR with this code.
func (c Code) endsSession() bool { return c/1000 == 1 }
