"""From msgspec's path of a wrong value, `$[5][1][1][2]`, to the field's path in the spec, `inputs[1].shape[2]`.

Only errors pay for it.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec
from msgspec import inspect

_STEP = re.compile(r"\[(\d+)\]|\.(\w+)|\[\.\.\.\]")


def named(*fields: str) -> msgspec.Meta:
    """Name the elements of a plain tuple type."""
    return msgspec.Meta(extra={"fields": fields})


def of(kind: type[msgspec.Struct], place: str) -> str | None:
    """Return the path of the field that msgspec's `place` means in a message of `kind`; None for the message itself.

    What is wrong with a key or a value of a dict is told as the dict's own path.
    """
    at: inspect.Type = _type_info(kind)
    path = ""
    for index, key in _STEP.findall(place):
        if not index and not key:
            break
        name, at = _step(at, index, key)
        path += name
    return path.removeprefix(".") or None


@lru_cache
def _type_info(kind: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(kind)


def _step(at: inspect.Type, index: str, key: str) -> tuple[str, inspect.Type]:
    """Go from a type to its element `index`, or its key `key`; returns what the step is called and where it leads."""
    names: tuple[str, ...] = ()
    if isinstance(at, inspect.Metadata):
        names = (at.extra or {}).get("fields", ())
        at = at.type
    if isinstance(at, inspect.UnionType):
        at = next(choice for choice in at.types if not isinstance(choice, inspect.NoneType))
        return _step(at, index, key)
    if isinstance(at, inspect.StructType) and at.array_like:
        field = at.fields[int(index) - 1]  # element 0 is the message's number
        return "." + field.name, field.type
    if isinstance(at, inspect.StructType):
        return "." + key, next(field.type for field in at.fields if field.name == key)
    if isinstance(at, inspect.NamedTupleType):
        field = at.fields[int(index)]
        return "." + field.name, field.type
    if isinstance(at, inspect.TupleType):
        return "." + names[int(index)], at.item_types[int(index)]
    if isinstance(at, inspect.VarTupleType):
        return f"[{index}]", at.item_type
    return "", at
