"""Frames that decode: every boundary of every field, and every legal width that no encoder should choose."""

from collections.abc import Iterator
from typing import Any

from generator.encoding import (
    ARRAY_FORMS,
    INT_FORMS,
    MAP_FORMS,
    STR_FORMS,
    Raw,
    Value,
    encode,
    spell_bytes,
    widen_array,
    widen_int,
    widen_map,
    widen_str,
)
from generator.tables import Message, Type, find_message, list_messages, load_table
from generator.values import (
    INT_EDGES,
    LIST_EDGES,
    STR_EDGES,
    describe_message,
    message_spots,
    rich_message,
    smallest,
    tidy_message,
)

Case = tuple[str, Value]

# What an unknown key may hold: anything at all, so also what no known field would take.
UNKNOWN_KEYS: dict[str, Value] = {
    "x-nil": None,
    "x-bool": True,
    "x-negative": -(2**63),
    "x-large": 2**64 - 1,
    "x-float": 0.5,
    "x-str": "s" * 300,
    "x-bin": b"\x00\xff",
    "x-list": [1, [2, [3, {}]]],
    "x-int-keys": {1: "a", -1: {2: []}},
    "x-odd-keys": {Raw(b"\x91\x01"): 1, None: 2, True: 3, 0.5: 4},
    "x-ext": Raw(bytes.fromhex("d405aa")),
    "x-timestamp": Raw(bytes.fromhex("d6ff65000000")),
    "x-bad-timestamp": Raw(bytes.fromhex("c703ff010203")),  # none has 3 bytes, but who skips an ext does not look
}
LEVELS_DECODED = 16


def list_valid() -> list[dict[str, Any]]:
    vectors = []
    for message in list_messages():
        vectors.append(spell_valid(message, "every part", rich_message(message)))
        vectors.append(spell_valid(message, "smallest", smallest_message(message)))
        for spot in message_spots(message):
            cases = (*edges(spot.type), *detours(spot.type))
            vectors += [spell_valid(message, f"{spot.name} {what}", spot.put(value)) for what, value in cases]
        vectors += [spell_valid(message, what, frame) for what, frame in header_detours(message)]
    return vectors + list_large()


def smallest_message(message: Message) -> list[Value]:
    return [message.number, *(smallest(each) for _, each in message.fields)]


def spell_valid(message: Message, what: str, frame: Value) -> dict[str, Any]:
    data = encode(frame)
    return {
        "name": f"{message.name} {what}",
        "from": message.sender,
        "message": message.name,
        "canonical": data == encode(tidy_message(message, frame)),
        "fields": describe_message(message, frame),
        **spell_bytes(data),
    }


def edges(of: Type) -> Iterator[Case]:
    """Yield the boundary values of a type, in the encoding that an encoder must choose."""
    if of.nullable:
        yield "nil", None
    match of.kind:
        case "bool":
            yield from (("false", False), ("true", True))
        case "int":
            yield from ((str(number), number) for number in INT_EDGES if of.low <= number <= of.high)
        case "str":
            yield from str_edges(of)
        case "list":
            for length in LIST_EDGES:
                if length <= of.max_items:
                    yield f"of {length}", [smallest(of.of[0])] * length
        case "dict":
            for length in LIST_EDGES:
                if length <= of.max_items:
                    yield f"of {length}", {f"k{index:02}": smallest(of.of[0]) for index in range(length)}
            yield "longest key", {"k" * of.key_chars: smallest(of.of[0])}
            yield "empty key", {"": smallest(of.of[0])}
        case "either":
            for choice in of.of:
                yield from edges(choice)


def str_edges(of: Type) -> Iterator[Case]:
    for length in STR_EDGES:
        if length <= of.max_chars:
            yield f"of {length} chars", "s" * length
    yield f"of {of.max_chars} chars of 4 bytes", "\U0001f600" * of.max_chars
    yield "with a NUL", "a\0b"
    yield "of UTF-8 boundaries", "\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"[: of.max_chars]


def detours(of: Type) -> Iterator[Case]:
    """Yield encodings that are legal, mean the same, and are not what an encoder must choose."""
    match of.kind:
        case "int":
            yield from ((f"1 as {form[0]}", widen_int(form, 1)) for form in INT_FORMS)
        case "str":
            yield from ((f"'a' as {form[0]}", widen_str(form, "a")) for form in STR_FORMS)
        case "list":
            items = [smallest(of.of[0])]
            yield from ((f"of 1 as {form[0]}", widen_array(form, items)) for form in ARRAY_FORMS)
        case "tuple":
            yield from ((f"as {form[0]}", widen_array(form, smallest(of))) for form in ARRAY_FORMS)
        case "dict":
            entry = {"a": smallest(of.of[0])}
            yield from ((f"of 1 as {form[0]}", widen_map(form, entry)) for form in MAP_FORMS)
            for form in STR_FORMS:
                yield f"key as {form[0]}", {widen_str(form, "a"): smallest(of.of[0])}
        case "map":
            yield from map_detours(of)
        case "either":
            for choice in of.of:
                yield from detours(choice)


def map_detours(of: Type) -> Iterator[Case]:
    plainest: dict[Value, Value] = smallest(of)
    full: dict[Value, Value] = {key.name: smallest(key.type) for key in of.keys}
    yield from ((f"as {form[0]}", widen_map(form, full)) for form in MAP_FORMS)
    if full:
        yield "keys in another order", dict(reversed(full.items()))
        for form in STR_FORMS:
            yield f"keys as {form[0]}", {widen_str(form, name): value for name, value in full.items()}
    if len(full) > len(plainest):
        yield "optional keys nil", full
    yield "unknown keys first", {**UNKNOWN_KEYS, **plainest}
    yield "unknown keys last", {**plainest, **UNKNOWN_KEYS}
    yield "unknown keys that nearly are known", {**plainest, **{f"{name}s": 1 for name in full}, "": 1}


def header_detours(message: Message) -> Iterator[Case]:
    """Yield the message's own array, and its number, in every wider form."""
    frame = rich_message(message)
    for form in ARRAY_FORMS:
        yield f"as {form[0]}", widen_array(form, frame)
    for form in INT_FORMS:
        yield f"number as {form[0]}", [widen_int(form, frame[0]), *frame[1:]]


def list_large() -> list[dict[str, Any]]:
    """Return frames of exactly the largest size, and of the depth that every decoder must manage."""
    vectors = []
    for name in ("OPEN", "ERROR"):
        message = find_message(name)
        *others, last = smallest_message(message)
        vectors.append(spell_valid(message, "of 65536 bytes", pad_frame([*others, last])))
        for what, deepest in (("arrays", nest_arrays), ("maps", nest_maps)):
            deep = {"x": deepest(LEVELS_DECODED - 2)}  # the message and its last field are two levels
            vectors.append(spell_valid(message, f"of {LEVELS_DECODED} levels of {what}", [*others, deep]))
    return vectors


def pad_frame(frame: list[Value]) -> list[Value]:
    """Put an unknown key into the last field, so large that the payload is exactly as large as it may be."""
    largest = load_table("messages.json")["frame"]["max_payload_bytes"]

    def padded(length: int) -> list[Value]:
        return [*frame[:-1], {"pad": bytes(length)}]

    around = len(encode(padded(60000))) - 60000
    return padded(largest - around)


def nest_arrays(levels: int) -> Value:
    value: Value = []
    for _ in range(levels - 1):
        value = [value]
    return value


def nest_maps(levels: int) -> Value:
    value: Value = {}
    for _ in range(levels - 1):
        value = {"x": value}
    return value
