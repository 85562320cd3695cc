"""Byte streams cut into pieces, and what has happened after each piece."""

from typing import Any

from generator.encoding import Value, encode, spell_bytes
from generator.frames_invalid import spell_error
from generator.frames_valid import pad_frame, smallest_message
from generator.tables import find_message, list_messages
from generator.values import describe_message

TOO_LARGE = {"error": spell_error("FRAME_TOO_LARGE")}
MALFORMED = {"error": spell_error("BAD_MSGPACK")}

Outcome = dict[str, Any]
Piece = tuple[bytes, list[Outcome]]


def list_streams() -> list[dict[str, Any]]:
    return [*list_side("client", "PING", "OPEN"), *list_side("broker", "PONG", "ERROR")]


def list_side(sender: str, small: str, padded: str) -> list[dict[str, Any]]:
    streams = [*good_streams(small), *split_streams(small), *bad_streams(small), *large_streams(padded)]
    return [spell_stream(sender, name, pieces) for name, pieces in streams]


def spell_stream(sender: str, name: str, pieces: list[Piece]) -> dict[str, Any]:
    return {
        "name": f"{sender} {name}",
        "from": sender,
        "pieces": [{**spell_bytes(data), "outcomes": outcomes} for data, outcomes in pieces],
    }


def put_frame(frame: Value) -> bytes:
    payload = encode(frame)
    return len(payload).to_bytes(4, "little") + payload


def see_message(frame: Value) -> Outcome:
    message = next(message for message in list_messages() if message.number == frame[0])
    return {"message": message.name, "fields": describe_message(message, frame)}


def good_streams(small: str) -> list[tuple[str, list[Piece]]]:
    number = find_message(small).number
    frames = [[number, token] for token in (1, 300, 2**53 - 1)]
    data, seen = [put_frame(frame) for frame in frames], [see_message(frame) for frame in frames]
    return [
        ("one frame", [(data[0], seen[:1])]),
        ("three frames in one piece", [(b"".join(data), seen)]),
        ("three frames in three pieces", [(each, [outcome]) for each, outcome in zip(data, seen, strict=True)]),
        ("nothing", [(b"", [])]),
        ("an empty piece between", [(data[0], seen[:1]), (b"", []), (data[1], seen[1:2])]),
    ]


def split_streams(small: str) -> list[tuple[str, list[Piece]]]:
    number = find_message(small).number
    frame = [number, 70000]
    data, outcome = put_frame(frame), see_message(frame)
    singly: list[Piece] = [(bytes([byte]), []) for byte in data]
    singly[-1] = (data[-1:], [outcome])
    streams = [("byte by byte", singly), ("one frame and a half", [(data + data[:-1], [outcome])])]
    for cut in range(1, len(data)):
        start, rest = data[:cut], data[cut:]
        streams.append((f"cut after {cut} bytes", [(start, []), (rest, [outcome])]))
        streams.append((f"cut after {cut} bytes of the second", [(data + start, [outcome]), (rest, [outcome])]))
    return streams


def bad_streams(small: str) -> list[tuple[str, list[Piece]]]:
    """What follows an error is not looked at."""
    number = find_message(small).number
    good, outcome = put_frame([number, 5]), see_message([number, 5])
    empty, large = bytes(4), (65537).to_bytes(4, "little")
    invalid, unknown = put_frame([number, -1]), put_frame([0])
    refused = {"error": spell_error("INVALID_FIELD", "token")}
    return [
        ("length 0", [(empty, [MALFORMED])]),
        ("length 0 between frames", [(good + empty + good, [outcome, MALFORMED])]),
        ("length 65537", [(large, [TOO_LARGE])]),
        ("length 65537 as it comes", [(large[:3], []), (large[3:], [TOO_LARGE])]),
        ("length 65537 and the start of its payload", [(large + bytes(100), [TOO_LARGE])]),
        ("length 2^31", [(bytes.fromhex("00000080"), [TOO_LARGE])]),
        ("length 2^32-1", [(b"\xff" * 4, [TOO_LARGE])]),
        ("length in the wrong byte order", [(bytes.fromhex("00000002") + bytes([0x92, number]), [TOO_LARGE])]),
        ("length 65537 after a frame", [(good + large + good, [outcome, TOO_LARGE])]),
        ("frames after length 65537", [(large, [TOO_LARGE]), (good, [])]),
        ("an invalid field after a frame", [(good + invalid + good, [outcome, refused])]),
        ("frames after an invalid field", [(invalid, [refused]), (good, [])]),
        ("an unknown message after a frame", [(good + unknown, [outcome, {"error": spell_error("UNKNOWN_MESSAGE")}])]),
        ("text", [(b"GET / HTTP/1.1\r\n\r\n", [TOO_LARGE])]),
    ]


def large_streams(padded: str) -> list[tuple[str, list[Piece]]]:
    frame = pad_frame(smallest_message(find_message(padded)))
    data, outcome = put_frame(frame), see_message(frame)
    return [
        ("length 65536", [(data, [outcome])]),
        ("length 65536 in pieces", [(data[:4], []), (data[4:40000], []), (data[40000:-1], []), (data[-1:], [outcome])]),
        ("length 65536 twice", [(data * 2, [outcome, outcome])]),
    ]
