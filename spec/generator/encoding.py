"""msgpack bytes: shortest forms from the `msgpack` package, and by hand what no encoder would write.

A `Raw` stands wherever a value may stand and is copied into the frame as it is.
"""

import re
from dataclasses import dataclass
from typing import Any

import msgpack

Value = Any  # nil, bool, int, float, str, bytes, list, dict, or a Raw in the place of any of them


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes to splice in, and the value that they mean where they mean one."""

    data: bytes
    meaning: Any = None


def encode(value: Value) -> bytes:
    """Encode in the shortest form, but for the `Raw` parts."""
    packer = msgpack.Packer()
    data: bytes
    match value:
        case Raw():
            data = value.data
        case list():
            data = packer.pack_array_header(len(value)) + b"".join(encode(item) for item in value)
        case dict():
            pairs = (encode(key) + encode(item) for key, item in value.items())
            data = packer.pack_map_header(len(value)) + b"".join(pairs)
        case _:
            data = packer.pack(value)
    return data


# Every family of msgpack values once or more: name, value, and the kinds of type that it belongs to.
FAMILIES: tuple[tuple[str, Value, frozenset[str]], ...] = (
    ("nil", None, frozenset()),
    ("false", False, frozenset({"bool"})),
    ("true", True, frozenset({"bool"})),
    ("int", 1, frozenset({"int", "either"})),
    ("negative int", -1, frozenset({"int", "either"})),  # out of every range, which is a case of its own
    ("float32", Raw(bytes.fromhex("ca3f800000")), frozenset()),
    ("float64", 1.0, frozenset()),
    ("float64 NaN", Raw(bytes.fromhex("cb7ff8000000000000")), frozenset()),
    ("str", "1", frozenset({"str", "either"})),
    ("empty str", "", frozenset({"str", "either"})),
    ("bin", b"1", frozenset()),
    ("empty bin", b"", frozenset()),
    ("array", [], frozenset({"list", "tuple"})),
    ("map", {}, frozenset({"map", "dict"})),
    ("fixext1", Raw(bytes.fromhex("d40100")), frozenset()),
    ("empty ext8", Raw(bytes.fromhex("c70001")), frozenset()),
    ("timestamp", Raw(bytes.fromhex("d6ff00000000")), frozenset()),
)

INT_FORMS = (
    ("uint8", 0xCC, 1), ("uint16", 0xCD, 2), ("uint32", 0xCE, 4), ("uint64", 0xCF, 8),
    ("int8", 0xD0, 1), ("int16", 0xD1, 2), ("int32", 0xD2, 4), ("int64", 0xD3, 8),
)  # fmt: skip
STR_FORMS = (("str8", 0xD9, 1), ("str16", 0xDA, 2), ("str32", 0xDB, 4))
ARRAY_FORMS = (("array16", 0xDC, 2), ("array32", 0xDD, 4))
MAP_FORMS = (("map16", 0xDE, 2), ("map32", 0xDF, 4))

Form = tuple[str, int, int]


def head(form: Form, number: int) -> bytes:
    """Return the type byte of a form and its number, big-endian: an int's value, or a length."""
    _, byte, width = form
    return bytes([byte]) + number.to_bytes(width, "big")


def widen_int(form: Form, value: int) -> Raw:
    return Raw(head(form, value), value)


def widen_str(form: Form, value: str) -> Raw:
    data = value.encode()
    return Raw(head(form, len(data)) + data, value)


def widen_array(form: Form, items: list[Value]) -> Raw:
    return Raw(head(form, len(items)) + b"".join(encode(item) for item in items), items)


def widen_map(form: Form, items: dict[Value, Value]) -> Raw:
    pairs = (encode(key) + encode(item) for key, item in items.items())
    return Raw(head(form, len(items)) + b"".join(pairs), items)


_REPEATED = re.compile(rb"(.{1,64}?)\1{15,}", re.DOTALL)
_LONG_BYTES = 512  # above this a frame is written as parts


def spell_bytes(data: bytes) -> dict[str, Any]:
    """Return `{"hex": ...}`, or `{"parts": [{"hex": ..., "times": n}, ...]}` for long repetitive bytes."""
    if len(data) <= _LONG_BYTES:
        return {"hex": data.hex()}
    parts, start = [], 0
    for match in _REPEATED.finditer(data):
        unit = match.group(1)
        parts += [(data[start : match.start()], 1), (unit, len(match.group(0)) // len(unit))]
        start = match.end()
    parts.append((data[start:], 1))
    return {"parts": [{"hex": piece.hex(), "times": times} for piece, times in parts if piece]}
