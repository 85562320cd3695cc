"""Every message as a typed struct, and the codec (spec sections 3 to 9, spec/messages.json).

A payload is decoded, or `RingbrokerError` is raised with one of BAD_MSGPACK, UNKNOWN_MESSAGE and INVALID_FIELD;
nothing else is. Descriptors and everything in them are plain tuples on purpose: a whole request's descriptors are
checked by one comparison with the tuple expected for its row (15 ns), and msgspec makes them faster than structs.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta, Struct

from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire import field_path
from ringbuf.wire.framing import LENGTH, LENGTH_BYTES

PROTOCOL_MAJOR = 1
PROTOCOL_MINOR = 0

U16: TypeAlias = Annotated[int, Meta(ge=0, le=65535)]
U53: TypeAlias = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Name: TypeAlias = Annotated[str, Meta(max_length=128)]
Text: TypeAlias = Annotated[str, Meta(max_length=4096)]
DTypeName: TypeAlias = Annotated[str, Meta(max_length=16)]
Names: TypeAlias = Annotated[tuple[Name, ...], Meta(max_length=64)]
Shape: TypeAlias = Annotated[tuple[U53, ...], Meta(max_length=16)]
Descriptor: TypeAlias = Annotated[tuple[U53, Shape, DTypeName], field_path.named("offset", "shape", "dtype")]
Descriptors: TypeAlias = Annotated[tuple[Descriptor, ...], Meta(max_length=32)]
Timings: TypeAlias = Annotated[tuple[U53, U53], field_path.named("queue_ns", "compute_ns")]
Maxima: TypeAlias = Annotated[dict[Name, U53], Meta(max_length=64)]
OpenMaxima: TypeAlias = Annotated[dict[Name, U53 | None], Meta(max_length=64)]


class Tensor(NamedTuple):
    """One input or output in a model's signature; `shape` is the whole one, a dynamic dim by its name."""

    name: Name
    dtype: DTypeName
    shape: Annotated[tuple[U53 | Name, ...], Meta(max_length=16)]
    batch_axis: U16 | None


Tensors: TypeAlias = Annotated[tuple[Tensor, ...], Meta(max_length=32)]


class Signature(Struct, frozen=True):
    """A model's inputs and outputs, and the maximum of each dynamic dim (None: the client chooses it)."""

    inputs: Tensors
    outputs: Tensors
    dims: OpenMaxima


class Model(NamedTuple):
    """One served model."""

    name: Name
    versions: Names
    pool: Name
    signature: Signature


class Plane(NamedTuple):
    """One input or output of an open ring: `[slots, *sample]` at `offset`, `stride` bytes from row to row."""

    name: Name
    direction: Name
    dtype: DTypeName
    sample: Shape
    offset: U53
    stride: U53
    batch_axis: U16 | None
    device: Name


class SegmentInfo(Struct, frozen=True):
    """How to map a ring's segment."""

    kind: Name
    path: Text | None
    bytes: U53


class ClientInfo(Struct, frozen=True):
    """Who calls, for logs."""

    name: Name
    version: Name


class Limits(Struct, frozen=True):
    """What the broker takes: bytes of a frame and of a segment, slots of a ring, rings of a session."""

    frame_bytes: U53
    segment_bytes: U53
    slots: U53
    rings: U53


class HelloOptions(Struct, frozen=True, omit_defaults=True):
    """Options of HELLO."""

    segments: Names | None = None
    pool: Name | None = None
    resume: Name | None = None


class InferExtra(Struct, frozen=True, omit_defaults=True):
    """Extra of INFER: `trace` goes into the broker's log lines about the request."""

    trace: Name | None = None


class ErrorExtra(Struct, frozen=True, omit_defaults=True):
    """Extra of ERROR: `needed_bytes` is what one row of the output needs that was larger than its plane."""

    needed_bytes: U53 | None = None


RingState: TypeAlias = Annotated[tuple[U53, U16], field_path.named("ring", "code")]


class WelcomeOptions(Struct, frozen=True, omit_defaults=True):
    """Options of WELCOME: the connection's pool; after a resume, the state of every ring, and the code of what the
    former worker's requests ended in, if that was more than its loss.
    """

    pool: Name | None = None
    rings: Annotated[tuple[RingState, ...], Meta(max_length=4096)] | None = None
    lost: U16 | None = None


class RingOptions(Struct, frozen=True, omit_defaults=True):
    """Options of RING: a model that is stateful may answer the same request differently the second time."""

    stateful: bool | None = None


class Nothing(Struct, frozen=True):
    """A map of which no key is defined yet."""


NOTHING = Nothing()
NO_RING_OPTIONS = RingOptions()
NO_INFER_EXTRA = InferExtra()
NO_ERROR_EXTRA = ErrorExtra()


class Message(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """The base of every message: a msgpack array of its number (the tag) and then its fields, all of them."""


class Hello(Message, tag=1):
    major: U16
    minor: U16
    client: ClientInfo
    options: HelloOptions


class List(Message, tag=2):
    id: U53
    page: U53


class Open(Message, tag=3):
    id: U53
    model: Name
    version: Name | None
    slots: U53
    maxima: Maxima
    options: Nothing


class Attached(Message, tag=4):
    ring: U53
    code: U16


class Infer(Message, tag=5):
    id: U53
    ring: U53
    slot: U53
    rows: Count
    inputs: Descriptors
    outputs: Descriptors | None
    deadline_ns: U53 | None
    version: Name | None
    extra: InferExtra


class Cancel(Message, tag=6):
    id: U53


class Close(Message, tag=7):
    id: U53
    ring: U53


class Ping(Message, tag=8):
    token: U53


class Error(Message, tag=64):
    id: U53 | None
    code: U16
    text: Text
    path: Text | None
    retry_after_ms: U53 | None
    extra: ErrorExtra


class Welcome(Message, tag=65):
    major: U16
    minor: U16
    session: U53
    resume_token: Name | None
    clock_ns: U53
    limits: Limits
    worker: U16
    workers: U16
    options: WelcomeOptions


class Models(Message, tag=66):
    id: U53
    models: Annotated[tuple[Model, ...], Meta(max_length=4096)]
    next_page: U53 | None


class Ring(Message, tag=67):
    id: U53
    ring: U53
    segment: SegmentInfo
    slots: Count
    max_rows: Count
    version: Name
    planes: Annotated[tuple[Plane, ...], Meta(max_length=64)]
    options: RingOptions


class Result(Message, tag=69):
    id: U53
    last: bool
    outputs: Descriptors
    version: Name
    timings: Timings
    batch_rows: Count
    extra: Nothing


class Closed(Message, tag=71):
    id: U53
    ring: U53


class Pong(Message, tag=72):
    token: U53


class GoAway(Message, tag=73):
    reason: Text
    grace_ms: U53


ClientMessage: TypeAlias = Hello | List | Open | Attached | Infer | Cancel | Close | Ping
BrokerMessage: TypeAlias = Error | Welcome | Models | Ring | Result | Closed | Pong | GoAway


def _by_number(*kinds: type[Message]) -> dict[int, type[Message]]:
    return {int(kind.__struct_config__.tag): kind for kind in kinds}  # type: ignore[arg-type]


CLIENT_MESSAGES = _by_number(Hello, List, Open, Attached, Infer, Cancel, Close, Ping)
BROKER_MESSAGES = _by_number(Error, Welcome, Models, Ring, Result, Closed, Pong, GoAway)

_encoder = msgspec.msgpack.Encoder()
_encode_into = _encoder.encode_into  # bound once, for the hot path
_pack_length_into = LENGTH.pack_into
_client_decoder = msgspec.msgpack.Decoder(ClientMessage)
_broker_decoder = msgspec.msgpack.Decoder(BrokerMessage)
_items_decoder = msgspec.msgpack.Decoder(tuple[msgspec.Raw, ...])

# What msgspec raises for bytes that are not one msgpack value; ValidationError, for a value that is no message, is
# among its subclasses and is told apart first.
_NOT_MSGPACK = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_client(payload: bytes) -> ClientMessage:
    """Decode what a client sent; raises `RingbrokerError` BAD_MSGPACK, UNKNOWN_MESSAGE or INVALID_FIELD, nothing
    else.
    """
    try:
        return _client_decoder.decode(payload)  # type: ignore[no-any-return]
    except _NOT_MSGPACK as error:
        raise _explain(payload, error, CLIENT_MESSAGES) from None


def decode_broker(payload: bytes) -> BrokerMessage:
    """Decode what the broker sent; raises as `decode_client`."""
    try:
        return _broker_decoder.decode(payload)  # type: ignore[no-any-return]
    except _NOT_MSGPACK as error:
        raise _explain(payload, error, BROKER_MESSAGES) from None


def append_frame(out: bytearray, message: Message) -> None:
    """Append `message` to `out` as one frame: its length and its payload, in the shortest encoding."""
    start = len(out)
    _encode_into(message, out, start + LENGTH_BYTES)
    _pack_length_into(out, start, len(out) - start - LENGTH_BYTES)


def encode_frame(message: Message) -> bytes:
    """Return `message` as one frame."""
    payload = _encoder.encode(message)
    return LENGTH.pack(len(payload)) + payload


def _explain(payload: bytes, error: Exception, kinds: dict[int, type[Message]]) -> RingbrokerError:
    """Say which of the three codes a payload earns that did not decode."""
    if not isinstance(error, msgspec.ValidationError):
        return _malformed()
    try:
        items = _items_decoder.decode(payload)
    except msgspec.ValidationError:  # not an array
        items = ()
    except _NOT_MSGPACK:  # the decoder stopped at a wrong field before it saw that the payload is cut short
        return _malformed()
    kind = _kind_of(items, kinds)
    if kind is None:
        return RingbrokerError(Code.UNKNOWN_MESSAGE, "not a message that this side receives")
    text, _, place = str(error).partition(" - at ")
    return RingbrokerError(Code.INVALID_FIELD, text, field_path.of(kind, place))


def _malformed() -> RingbrokerError:
    return RingbrokerError(Code.BAD_MSGPACK, "the payload is not one msgpack value")


def _kind_of(items: tuple[msgspec.Raw, ...], kinds: dict[int, type[Message]]) -> type[Message] | None:
    try:
        return kinds.get(msgspec.msgpack.decode(items[0], type=int))
    except (*_NOT_MSGPACK, IndexError):
        return None
