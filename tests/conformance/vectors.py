"""The vectors of `spec/`, read as its README says, and decoded messages spelled as they are."""

import json
from functools import cache
from pathlib import Path

import msgspec

from ringbuf.wire import messages

SPEC = Path(__file__).resolve().parents[2] / "spec"

DECODERS = {"client": messages.decode_client, "broker": messages.decode_broker}


@cache
def load(name):
    """Read a JSON file of `spec/`."""
    return json.loads((SPEC / name).read_text())


def spelled_bytes(vector):
    """The bytes of a vector: its `hex`, or its `parts`."""
    parts = vector.get("parts") or [{"hex": vector["hex"], "times": 1}]
    return b"".join(bytes.fromhex(part["hex"]) * part["times"] for part in parts)


def spell_message(message):
    """A decoded message as the vectors spell it."""
    return [spell(getattr(message, field)) for field in message.__struct_fields__]


def spell(value):
    """Any part of a decoded message as the vectors spell it."""
    match value:
        case bool() | str() | None:
            return value
        case int():
            return str(value)
        case messages.Tensor():
            dims = [{"name": dim} if isinstance(dim, str) else str(dim) for dim in value.shape]
            return [value.name, value.dtype, dims, spell(value.batch_axis)]
        case tuple():
            return [spell(item) for item in value]
        case dict():
            return {key: spell(item) for key, item in value.items()}
        case msgspec.Struct():
            return {field: spell(getattr(value, field)) for field in value.__struct_fields__}
    raise TypeError(type(value))


def spell_error(error):
    """A refusal as the vectors spell it."""
    return {"code": int(error.code), "name": error.code.name, "path": error.path}
