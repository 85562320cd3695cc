"""The tables of `spec/` as Python values.

A `Type` is one entry of `messages.json`'s "types" with every name in it resolved, so that the other modules walk a tree
and look nothing up.
"""

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

SPEC = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Key:
    """One known key of a `map`."""

    name: str
    type: "Type"
    required: bool


@dataclass(frozen=True, slots=True)
class Type:
    """One type on the wire. Which attributes mean something depends on `kind`."""

    kind: str
    nullable: bool = False
    low: int = 0
    high: int = 0
    max_chars: int = 0
    max_items: int = 0
    of: tuple["Type", ...] = ()  # a list's items, a dict's values, the choices of an either
    key_chars: int = 0  # of a dict
    fields: tuple[tuple[str, "Type"], ...] = ()
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    number: int
    name: str
    sender: str
    fields: tuple[tuple[str, Type], ...]


@cache
def load_table(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((SPEC / name).read_text())
    return table


@cache
def resolve_type(name: str) -> Type:
    """Return the type that `messages.json` calls `name`; a `?` at the end makes it nullable."""
    if name.endswith("?"):
        return replace(resolve_type(name[:-1]), nullable=True)
    row = load_table("messages.json")["types"][name]
    of = row.get("of", [])
    return Type(
        kind=row["kind"],
        low=int(row.get("min", 0)),
        high=int(row.get("max", 0)),
        max_chars=row.get("max_chars", 0),
        max_items=row.get("max_items", 0),
        of=tuple(resolve_type(each) for each in ([of] if isinstance(of, str) else of)),
        key_chars=resolve_type(row["key"]).max_chars if "key" in row else 0,
        fields=tuple((field, resolve_type(each)) for field, each in row.get("fields", [])),
        keys=tuple(resolve_key(*key) for key in row.get("keys", [])),
    )


def resolve_key(name: str, type_name: str, *marks: str) -> Key:
    """A key that may be left out may also be nil."""
    required = "required" in marks
    return Key(name, resolve_type(type_name if required else f"{type_name}?"), required)


@cache
def list_messages() -> tuple[Message, ...]:
    return tuple(read_message(row) for row in load_table("messages.json")["messages"])


def read_message(row: dict[str, Any]) -> Message:
    fields = tuple((name, resolve_type(each)) for name, each in row["fields"])
    return Message(row["number"], row["name"], row["from"], fields)


def find_message(name: str) -> Message:
    return next(message for message in list_messages() if message.name == name)


@cache
def find_error(name: str) -> dict[str, int | str]:
    """Return `{"code": ..., "name": ...}` of an error in `errors.json`."""
    row = next(row for row in load_table("errors.json")["errors"] if row["name"] == name)
    return {"code": row["code"], "name": name}


@cache
def dtype_sizes() -> dict[str, int]:
    return {row["name"]: row["size_bytes"] for row in load_table("dtypes.json")["dtypes"]}
