"""Frames that do not decode, each with every error that the spec allows for it."""

from collections.abc import Iterator
from typing import Any

from generator.encoding import FAMILIES, Raw, Value, encode, spell_bytes
from generator.frames_valid import smallest_message
from generator.tables import Message, Type, find_error, find_message, list_messages
from generator.values import Spot, message_spots, rich_message, smallest

BELOW = (-1, -32, -33, -128, -129, -(2**15) - 1, -(2**31) - 1, -(2**53), -(2**63))
BAD_UTF8 = (
    ("0xff", "ff"),
    ("a lone continuation byte", "80"),
    ("a character cut short", "61c3"),
    ("an overlong NUL", "c080"),
    ("a surrogate", "eda080"),
    ("a code point past the last", "f4908080"),
)
BAD_KEYS: tuple[tuple[str, Value], ...] = (
    ("int", 1),
    ("nil", None),
    ("bool", True),
    ("float", 0.5),
    ("bin", b"k"),
    ("array", Raw(b"\x91\x01")),
    ("map", Raw(b"\x80")),
    ("ext", Raw(bytes.fromhex("d40100"))),
)
LARGEST = (
    ("array32", "ddffffffff"),
    ("map32", "dfffffffff"),
    ("str32", "dbffffffff"),
    ("bin32", "c6ffffffff"),
    ("ext32", "c9ffffffff01"),
)
RESERVED = (0, 9, 62, 63, 68, 70, 74, 127, 128, 255, 256, 65535, 65536, 2**32, 2**53, 2**64 - 1, -1, -128, -(2**63))
BOMB_LEVELS = 60000

Error = dict[str, Any]
Case = tuple[str, Value, list[Error]]


def spell_error(name: str, path: str | None = None) -> Error:
    return {**find_error(name), "path": path}


def list_invalid() -> list[dict[str, Any]]:
    vectors = []
    for message in list_messages():
        for spot in message_spots(message):
            vectors += [spell_invalid(message, *case) for case in wrong_values(spot)]
        vectors += [spell_invalid(message, *case) for case in wrong_messages(message)]
    for name in ("OPEN", "ERROR"):  # one per side
        vectors += [spell_invalid(find_message(name), *case) for case in garbage(find_message(name))]
    return vectors


def spell_invalid(message: Message, what: str, frame: Value, errors: list[Error]) -> dict[str, Any]:
    return {
        "name": f"{message.name} {what}",
        "from": message.sender,
        "errors": errors,
        **spell_bytes(encode(frame)),
    }


def wrong_values(spot: Spot) -> Iterator[Case]:
    """Yield everything that may not stand at a spot; the path is the spot's, or of what is inside it."""
    invalid = [spell_error("INVALID_FIELD", spot.path)]
    malformed = [spell_error("BAD_MSGPACK")]
    both = malformed + invalid
    for what, value, kinds in FAMILIES:
        if spot.type.kind not in kinds and not (value is None and spot.type.nullable):
            yield f"{spot.name}: {what}", spot.put(value), invalid
    for what, value in [*out_of_range(spot.type), *wrong_keys(spot.type)]:
        yield f"{spot.name}: {what}", spot.put(value), invalid
    for what, value in bad_strings(spot.type):
        yield f"{spot.name}: {what}", spot.put(value), malformed
    for what, data in lying_lengths(spot.type):
        yield f"{spot.name}: {what}", spot.put(Raw(bytes.fromhex(data))), both
    yield f"{spot.name}: 0xc1", spot.put(Raw(b"\xc1")), malformed


def out_of_range(of: Type) -> Iterator[tuple[str, Value]]:
    match of.kind:
        case "int":
            below = [number for number in (0, *BELOW) if number < of.low]
            above = [of.high + 1, 2**63 - 1, 2**63, 2**64 - 1]
            yield from ((f"int {number}", number) for number in below + above)
        case "str":
            too_long = of.max_chars + 1
            yield f"str of {too_long} chars", "s" * too_long
            yield f"str of {too_long} chars of 2 bytes", "é" * too_long
        case "list" if of.max_items <= 64:  # more items than that do not fit in a frame
            yield f"list of {of.max_items + 1}", [smallest(of.of[0])] * (of.max_items + 1)
        case "dict":
            too_many = of.max_items + 1
            yield f"dict of {too_many}", {f"k{index:02}": smallest(of.of[0]) for index in range(too_many)}
        case "tuple":
            items = smallest(of)
            yield from ((f"tuple of {length}", items[:length]) for length in range(len(items)))
            yield f"tuple of {len(items) + 1}", [*items, None]
        case "either":
            for choice in of.of:
                yield from out_of_range(choice)


def wrong_keys(of: Type) -> Iterator[tuple[str, Value]]:
    if of.kind not in ("map", "dict"):
        return
    for what, key in BAD_KEYS:
        yield f"a key that is {what}", {**smallest(of), key: 1}
    if of.kind == "dict":
        yield f"a key of {of.key_chars + 1} chars", {"k" * (of.key_chars + 1): smallest(of.of[0])}
    required = {key.name: smallest(key.type) for key in of.keys if key.required}
    for missing in required:
        yield f"without {missing}", {name: value for name, value in required.items() if name != missing}
    if required:
        yield "an empty map", {}


def bad_strings(of: Type) -> Iterator[tuple[str, Value]]:
    """Yield strings, and keys of a dict, that are not UTF-8."""
    raws = [(what, Raw(bytes([0xA0 + len(data) // 2]) + bytes.fromhex(data))) for what, data in BAD_UTF8]
    match of.kind:
        case "str":
            yield from raws
        case "dict":
            yield from ((f"a key with {what}", {raw: smallest(of.of[0])}) for what, raw in raws)
        case "either":
            yield from bad_strings(of.of[1])


def lying_lengths(of: Type) -> Iterator[tuple[str, str]]:
    """Yield headers that promise far more than the frame holds: both truncated and too long."""
    match of.kind:
        case "str":
            yield from (("str8 of 255", "d9ff"), ("str32 of 2^32-1", "dbffffffff")) if of.max_chars < 255 else ()
            yield "str32 of 2^31", "db80000000"
        case "list":
            yield from (("array16 of 65535", "dcffff"), ("array32 of 2^32-1", "ddffffffff"))
            yield "array32 of 2^31", "dd80000000"
        case "tuple":
            yield "array32 of 2^32-1", "ddffffffff"
        case "dict" | "map":
            yield from (("map16 of 65535", "deffff"), ("map32 of 2^32-1", "dfffffffff"))
        case "int":
            yield "bin32 of 2^32-1", "c6ffffffff"
            yield "ext32 of 2^32-1", "c9ffffffff01"


def wrong_messages(message: Message) -> Iterator[Case]:
    """Yield wrong numbers of fields, numbers of the other side, and what follows a whole message."""
    frame = rich_message(message)
    invalid = [spell_error("INVALID_FIELD")]
    malformed = [spell_error("BAD_MSGPACK")]
    for length in range(1, len(frame)):
        yield f"with {length - 1} fields", frame[:length], invalid
    for what, value, _ in FAMILIES:
        yield f"and a further field: {what}", [*frame, value], invalid
    yield "with 70 further fields", [*frame, *[None] * 70], invalid
    for what, data in (("nil", "c0"), ("0xc1", "c1"), ("an empty str", "a0"), ("a zero", "00")):
        yield f"and then {what}", Raw(encode(frame) + bytes.fromhex(data)), malformed
    yield "twice in one payload", Raw(encode(frame) * 2), malformed
    for what, header in (("array16 of 65535", "dcffff"), ("array32 of 2^32-1", "ddffffffff")):
        lying = Raw(bytes.fromhex(header) + b"".join(encode(item) for item in frame))
        yield f"said to be an {what}", lying, malformed + invalid


def garbage(message: Message) -> Iterator[Case]:
    """Yield what is no message at all, as sent by the side that sends `message`."""
    yield from no_messages()
    yield from foreign_numbers(message)
    yield from bombs(message)
    yield from odd_unknown_keys(message)


def no_messages() -> Iterator[Case]:
    unknown = [spell_error("UNKNOWN_MESSAGE")]
    malformed = [spell_error("BAD_MSGPACK")]
    yield "side: empty payload", Raw(b""), malformed
    for what, value, kinds in FAMILIES:
        if "list" not in kinds:
            yield f"side: payload {what}", value, unknown
        if what not in ("int", "negative int"):
            yield f"side: number {what}", [value, 0], unknown
    yield "side: payload 0xc1", Raw(b"\xc1"), malformed
    yield "side: payload an array with no number", [], unknown
    yield "side: payload a map with a number", {0: 8}, unknown
    yield "side: number 0xc1", Raw(b"\x92\xc1\x00"), malformed + unknown
    for what, data in (("array16 of 65535", "dcffff"), ("array of 1", "91")):
        yield f"side: payload {what} that holds nothing", Raw(bytes.fromhex(data)), malformed + unknown
    for what, data in LARGEST:
        yield f"side: payload {what} of 2^32-1 that holds nothing", Raw(bytes.fromhex(data)), malformed + unknown


def foreign_numbers(message: Message) -> Iterator[Case]:
    unknown = [spell_error("UNKNOWN_MESSAGE")]
    for number in RESERVED:
        yield f"side: number {number}", [number, 0], unknown
    yield "side: number 1 and 64 bits more", [Raw(bytes.fromhex("cf8000000000000001")), 0], unknown
    for other in list_messages():
        if other.sender != message.sender:
            yield f"side: {other.name} of the other side", rich_message(other), unknown


def bombs(message: Message) -> Iterator[Case]:
    """Yield nestings that a careless decoder dies of. Inside an unknown key, a decoder that skips them takes them."""
    malformed, invalid = [spell_error("BAD_MSGPACK")], [spell_error("INVALID_FIELD", message.fields[0][0])]
    unknown = [spell_error("UNKNOWN_MESSAGE")]
    arrays, maps = b"\x91" * BOMB_LEVELS, b"\x81\xa0" * (BOMB_LEVELS // 2)
    first, *others = smallest_message(message)
    for what, data in (("arrays", arrays + b"\x90"), ("maps", maps + b"\x80")):
        yield f"side: payload of nested {what}", [Raw(data)], malformed + unknown
        yield f"side: payload of nested {what}, cut short", Raw(b"\x91" + data[:-1]), malformed + unknown
        yield f"side: first field of nested {what}", [first, Raw(data), *others[1:]], malformed + invalid
        cut = encode([first, *others])[:-1] + b"\x81\xa1x" + data[:-1]
        yield f"side: unknown key with nested {what}, cut short", Raw(cut), malformed


def odd_unknown_keys(message: Message) -> Iterator[Case]:
    """Yield what is not msgpack inside an unknown key of the last field."""
    malformed = [spell_error("BAD_MSGPACK")]
    *others, _ = smallest_message(message)
    for what, data in (("0xc1", "c1"), ("an array of 0xc1", "91c1"), ("a map of 0xc1", "8100c1")):
        yield f"side: unknown key with {what}", [*others, {"x": Raw(bytes.fromhex(data))}], malformed
    for what, data in LARGEST:
        yield f"side: unknown key with {what} of 2^32-1", [*others, {"x": Raw(bytes.fromhex(data))}], malformed
