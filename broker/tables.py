"""Tables of TOML: their keys, what each may hold, and everything that is wrong with them.

What is wrong is appended to a list of problems, each a `RingbrokerError` CONFIG_INVALID with the path of its key, so
that one reading finds all of it.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ringbuf.errors import Code, RingbrokerError


class Key(NamedTuple):
    """One key of a table."""

    expects: str
    is_right: Callable[[Any], bool]
    read: Callable[[Any], Any] = lambda value: value
    is_needed: bool = False


def load(path: Path) -> dict[str, Any]:
    """Read a file; raises `RingbrokerError` CONFIG_INVALID where it is not there, or is not TOML."""
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:  # not TOML, not UTF-8, or tables in tables without an end
        reason = error.strerror if isinstance(error, OSError) else error
        raise invalid(f"it cannot be read: {reason}", str(path)) from error


def read(
    table: Mapping[str, Any], keys: Mapping[str, Key], path: str, problems: list[RingbrokerError]
) -> dict[str, Any]:
    """What a table says, without what is wrong with it; `path` is where it stands."""
    values: dict[str, Any] = {}
    for word, value in table.items():
        place = f"{path}.{word}" if path else word
        key = keys.get(word)
        if key is None:
            problems.append(invalid(f"there is no key {word!r}{suggestion(word, keys)}", place))
        elif not key.is_right(value):
            problems.append(invalid(f"{value!r} is not {key.expects}", place))
        else:
            values[word] = key.read(value)
    missing = [word for word, key in keys.items() if key.is_needed and word not in table]
    problems += [invalid(f"it needs {word!r}, {keys[word].expects}", path) for word in missing]
    return values


def suggestion(word: str, words: Iterable[str]) -> str:
    """What else might be meant, to be put behind an error."""
    known = sorted(words)
    near = difflib.get_close_matches(word, known, 1)
    if near:
        return f": did you mean {near[0]!r}?"
    return f"; there are {', '.join(known)}" if known else ""


def invalid(text: str, path: str) -> RingbrokerError:
    """A CONFIG_INVALID."""
    return RingbrokerError(Code.CONFIG_INVALID, text, path)


def is_number(value: object) -> bool:
    """Whether it is a finite number, and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -math.inf < value < math.inf


def is_whole(value: object, least: int, most: int = 2**53 - 1) -> bool:
    """Whether it is a whole number in these bounds, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_text(value: object) -> bool:
    """Whether it is a text that says something."""
    return isinstance(value, str) and value != ""


def is_table(value: object) -> bool:
    """Whether it is a table."""
    return isinstance(value, dict)


def list_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether it is a list of such values."""
    return lambda value: isinstance(value, list) and all(map(is_right, value))


def table_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether it is a table of such values."""
    return lambda value: isinstance(value, dict) and all(map(is_right, value.values()))
