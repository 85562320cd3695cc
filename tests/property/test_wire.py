"""Laws of the codec and the framing, with the PyPI package `msgpack` as the oracle.

Messages are drawn from `spec/messages.json`, so that a field that the codec and the table disagree about is found here.
"""

from functools import cache
from itertools import pairwise

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire import messages
from ringbuf.wire.framing import FrameReader
from tests.conformance.vectors import DECODERS, load

TABLE = load("messages.json")
REFUSALS = {Code.BAD_MSGPACK, Code.UNKNOWN_MESSAGE, Code.INVALID_FIELD}
NUMBERS = {side: {row["number"] for row in TABLE["messages"] if row["from"] == side} for side in DECODERS}
MAX_ITEMS = 5  # of any list: the laws do not depend on it, the limits are in the vectors

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@cache
def values(name):
    """Everything that a type of `messages.json` allows."""
    if name.endswith("?"):
        return st.none() | values(name[:-1])
    row = TABLE["types"][name]
    match row["kind"]:
        case "bool":
            return st.booleans()
        case "int":
            return st.integers(int(row["min"]), int(row["max"]))
        case "str":
            return st.text(max_size=min(row["max_chars"], 40))
        case "list":
            return st.lists(values(row["of"]), max_size=MAX_ITEMS)
        case "dict":
            return st.dictionaries(values(row["key"]), values(row["of"]), max_size=MAX_ITEMS)
        case "tuple":
            return st.tuples(*(values(kind) for _, kind in row["fields"])).map(list)
        case "map":
            keys = row["keys"]
            return st.fixed_dictionaries(
                {key: values(kind) for key, kind, *marks in keys if marks},
                optional={key: values(kind) for key, kind, *marks in keys if not marks},
            )
        case "either":
            return st.one_of(*(values(kind) for kind in row["of"]))
    raise ValueError(row["kind"])


@cache
def frames(side):
    """Whole messages of one side, as the arrays that they are on the wire."""
    rows = [row for row in TABLE["messages"] if row["from"] == side]
    return st.one_of(
        st.tuples(st.just(row["number"]), *(values(kind) for _, kind in row["fields"])).map(list) for row in rows
    )


def is_one_value(payload):
    """The oracle's word on whether bytes are exactly one msgpack value."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(payload)
    try:
        unpacker.skip()
    except (msgpack.OutOfData, msgpack.UnpackException, ValueError):
        return False
    return unpacker.tell() == len(payload)


def is_readable(payload):
    """Whether the oracle decodes the payload, strings included."""
    try:
        msgpack.unpackb(payload, strict_map_key=False)
    except (msgpack.UnpackException, ValueError, TypeError):  # TypeError: a key that Python cannot hash
        return False
    return True


def number_of(payload):
    """The message's number as the oracle reads it; None where there is none."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(payload)
    try:
        return unpacker.unpack() if unpacker.read_array_header() else None
    except (msgpack.OutOfData, msgpack.UnpackException, ValueError):
        return None


def assert_true(error, side, payload):
    """A refusal says nothing that is not so. (INVALID_FIELD is left to the vectors.)"""
    assert error.code in REFUSALS
    if error.code is Code.BAD_MSGPACK:
        assert not is_readable(payload)
    if error.code is Code.UNKNOWN_MESSAGE:
        number = number_of(payload)
        assert type(number) is not int or number not in NUMBERS[side]


@pytest.mark.parametrize("side", DECODERS)
@given(data=st.data())
def test_decode_and_encode_are_inverse(side, data):
    frame = data.draw(frames(side))
    decoded = DECODERS[side](msgpack.packb(frame))
    encoded = messages.encode_frame(decoded)
    assert msgpack.unpackb(encoded[4:], strict_map_key=False) == frame
    assert DECODERS[side](encoded[4:]) == decoded
    assert len(encoded[4:]) <= len(msgpack.packb(frame)), "not the shortest form"


@pytest.mark.parametrize("side", DECODERS)
@given(data=st.data())
def test_frames_are_appended_one_after_the_other(side, data):
    decoded = [DECODERS[side](msgpack.packb(frame)) for frame in data.draw(st.lists(frames(side), max_size=4))]
    out = bytearray(b"before")
    for message in decoded:
        messages.append_frame(out, message)
    assert out == b"before" + b"".join(messages.encode_frame(message) for message in decoded)


@pytest.mark.parametrize("side", DECODERS)
@given(value=anything)
def test_any_value_is_a_message_or_refused(side, value):
    payload = msgpack.packb(value)
    try:
        DECODERS[side](payload)
    except RingbrokerError as error:
        assert_true(error, side, payload)
    else:
        assert number_of(payload) in NUMBERS[side]


@pytest.mark.parametrize("side", DECODERS)
@settings(max_examples=200)
@given(data=st.data())
def test_damaged_frames_are_messages_or_refused(side, data):
    payload = bytearray(msgpack.packb(data.draw(frames(side))))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    payload = bytes(payload) + data.draw(st.binary(max_size=2))
    try:
        decoded = DECODERS[side](payload)
    except RingbrokerError as error:
        assert_true(error, side, payload)
    else:
        assert is_one_value(payload)
        assert DECODERS[side](messages.encode_frame(decoded)[4:]) == decoded


@pytest.mark.parametrize("side", DECODERS)
@given(payload=st.binary(max_size=64))
def test_garbage_is_a_message_or_refused(side, payload):
    try:
        DECODERS[side](payload)
    except RingbrokerError as error:
        assert_true(error, side, payload)
    else:
        assert is_one_value(payload)


def read_in_pieces(stream, cuts):
    """What a reader has seen after a stream was fed in pieces."""
    reader = FrameReader()
    edges = [0, *sorted(cut for cut in cuts if cut <= len(stream)), len(stream)]
    payloads = [payload for start, end in pairwise(edges) for payload in reader.feed(stream[start:end])]
    return payloads, reader.error and reader.error.code


lengths = st.sampled_from([0, 1, 2, 65535, 65536, 65537, 2**31, 2**32 - 1]) | st.integers(0, 40)
cut_points = st.lists(st.integers(0, 300), max_size=12)


@given(payloads=st.lists(st.binary(max_size=40), max_size=6), rest=st.binary(max_size=3), cuts=cut_points)
def test_any_split_gives_the_same_payloads(payloads, rest, cuts):
    stream = b"".join(len(payload).to_bytes(4, "little") + payload for payload in payloads) + rest
    assert read_in_pieces(stream, cuts) == (payloads, None)


@given(
    parts=st.lists(lengths.map(lambda length: length.to_bytes(4, "little")) | st.binary(max_size=40)), cuts=cut_points
)
def test_any_split_of_any_stream_gives_the_same(parts, cuts):
    stream = b"".join(parts)
    assert read_in_pieces(stream, cuts) == read_in_pieces(stream, [])


@given(payloads=st.lists(st.binary(max_size=9), max_size=3), length=st.integers(65537, 2**32 - 1), cuts=cut_points)
def test_a_length_over_the_limit_ends_the_stream(payloads, length, cuts):
    stream = b"".join(len(payload).to_bytes(4, "little") + payload for payload in payloads)
    stream += length.to_bytes(4, "little")
    assert read_in_pieces(stream + stream, cuts) == (payloads, Code.FRAME_TOO_LARGE)
