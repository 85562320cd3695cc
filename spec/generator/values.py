"""Values of every type, and every place in a message where one can stand.

A `Spot` is such a place. Around it the message is as small as it can be, so that a frame shows what it is about.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from generator.encoding import Raw, Value
from generator.tables import Message, Type

INT_EDGES = (0, 1, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 - 1)
STR_EDGES = (0, 1, 31, 32, 127, 128, 255, 256, 4096)
LIST_EDGES = (0, 1, 2, 15, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a message: its path as in an ERROR, its type, how to put a value there, its name in the vectors."""

    path: str
    type: Type
    put: Callable[[Value], Value]
    name: str


def smallest(of: Type) -> Value:
    """Return the value of a type that takes the fewest bytes, but nil only where nil is allowed."""
    if of.nullable:
        return None
    match of.kind:
        case "int":
            return of.low
        case "str":
            return ""
        case "bool":
            return False
        case "list":
            return []
        case "dict":
            return {}
        case "tuple":
            return [smallest(each) for _, each in of.fields]
        case "map":
            return {key.name: smallest(key.type) for key in of.keys if key.required}
        case "either":
            return smallest(of.of[0])
    raise ValueError(of.kind)


def richest(of: Type, name: str, numbers: Iterator[int]) -> Value:
    """Return a value in which every part is there, and every integer is another one."""
    match of.kind:
        case "int":
            return next(numbers)
        case "str":
            return name
        case "bool":
            return True
        case "list":
            return [richest(of.of[0], f"{name}{index}", numbers) for index in range(2)]
        case "dict":
            return {f"{name}{index}": richest(of.of[0], name, numbers) for index in range(2)}
        case "tuple":
            return [richest(each, field, numbers) for field, each in of.fields]
        case "map":
            return {key.name: richest(key.type, key.name, numbers) for key in of.keys}
        case "either":
            return richest(of.of[next(numbers) % 2], name, numbers)
    raise ValueError(of.kind)


def rich_message(message: Message) -> list[Value]:
    numbers = count(1)
    return [message.number, *(richest(each, name, numbers) for name, each in message.fields)]


def message_spots(message: Message) -> Iterator[Spot]:
    """Yield every place in a message, fields first and then what is in them."""
    for index, (name, each) in enumerate(message.fields):
        before = [smallest(other) for _, other in message.fields[:index]]
        after = [smallest(other) for _, other in message.fields[index + 1 :]]

        def put(value: Value, before: list[Value] = before, after: list[Value] = after) -> Value:
            return [message.number, *before, value, *after]

        yield from spots_within(Spot(name, each, put, name))


def spots_within(spot: Spot) -> Iterator[Spot]:
    """Yield a spot and every one inside it."""
    yield spot
    match spot.type.kind:
        case "list":
            yield from spots_within(item_spot(spot))
        case "dict":
            yield from spots_within(value_spot(spot))
        case "tuple":
            for index, (name, each) in enumerate(spot.type.fields):
                yield from spots_within(inner_spot(spot, name, each, put_field(spot, index)))
        case "map":
            for key in spot.type.keys:
                yield from spots_within(inner_spot(spot, key.name, key.type, put_key(spot, key.name)))


def inner_spot(outer: Spot, name: str, of: Type, put: Callable[[Value], Value]) -> Spot:
    path = f"{outer.path}.{name}"
    return Spot(path, of, put, path)


def item_spot(spot: Spot) -> Spot:
    """Return the place of a list's last item; others stand before it, so that its index is not 0."""
    item = spot.type.of[0]
    before = [smallest(item)] * (1 if item.kind in ("tuple", "str") else 2)
    path = f"{spot.path}[{len(before)}]"
    return Spot(path, item, lambda value: spot.put([*before, value]), path)


def value_spot(spot: Spot) -> Spot:
    """Return the place of a dict's last value. What is wrong with it is told as the dict's own path."""
    item = spot.type.of[0]
    return Spot(spot.path, item, lambda value: spot.put({"a": smallest(item), "b": value}), f"{spot.path} value")


def put_field(spot: Spot, index: int) -> Callable[[Value], Value]:
    def put(value: Value) -> Value:
        items = [smallest(each) for _, each in spot.type.fields]
        items[index] = value
        return spot.put(items)

    return put


def put_key(spot: Spot, name: str) -> Callable[[Value], Value]:
    def put(value: Value) -> Value:
        keys = (key for key in spot.type.keys if key.required or key.name == name)
        return spot.put({key.name: value if key.name == name else smallest(key.type) for key in keys})

    return put


def describe(of: Type, value: Value) -> Any:
    """Return what a decoder makes of a value, as JSON: integers as strings, the known keys of maps alone."""
    value = plain(value)
    if value is None:
        return None
    match of.kind:
        case "int":
            return str(value)
        case "list":
            return [describe(of.of[0], item) for item in value]
        case "tuple":
            return [describe(each, item) for (_, each), item in zip(of.fields, value, strict=True)]
        case "dict":
            return {plain(key): describe(of.of[0], item) for key, item in value.items()}
        case "map":
            given = {plain(key): item for key, item in value.items() if isinstance(plain(key), str)}
            return {key.name: describe(key.type, given.get(key.name)) for key in of.keys}
        case "either":
            return {"name": value} if isinstance(value, str) else str(value)
    return value


def plain(value: Value) -> Value:
    return value.meaning if isinstance(value, Raw) else value


def tidy(of: Type, value: Value) -> Value:
    """Return what an encoder must write: shortest forms, known keys in the table's order, no key that is nil."""
    value = plain(value)
    if value is None:
        return None
    match of.kind:
        case "list":
            return [tidy(of.of[0], item) for item in value]
        case "tuple":
            return [tidy(each, item) for (_, each), item in zip(of.fields, value, strict=True)]
        case "dict":
            return {plain(key): tidy(of.of[0], item) for key, item in value.items()}
        case "map":
            given = {plain(key): item for key, item in value.items() if isinstance(plain(key), str)}
            held = [key for key in of.keys if key.required or plain(given.get(key.name)) is not None]
            return {key.name: tidy(key.type, given[key.name]) for key in held}
    return value


def tidy_message(message: Message, frame: Value) -> Value:
    number, *items = plain(frame)
    return [plain(number), *(tidy(each, item) for (_, each), item in zip(message.fields, items, strict=True))]


def describe_message(message: Message, frame: Value) -> list[Any]:
    items = plain(frame)[1:]
    return [describe(each, item) for (_, each), item in zip(message.fields, items, strict=True)]
