"""Arguments of the public calls, checked before anything is sent: over a value that the protocol does not have, the
broker would end the session with all its leases (spec sections 3, 10).

A frame of checked arguments is never too large: names are short, and few.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import index

MAX_NAME_CHARS = 128
MAX_MAXIMA = 64
MOST = 2**53 - 1


def whole(what: str, value: object) -> int:
    """Return an integer, numpy's included, as Python's; raises TypeError."""
    try:
        return int(index(value))  # type: ignore[arg-type]  # what is none says so
    except TypeError:
        raise TypeError(f"{what} is an integer, not {value!r}") from None


def count(what: str, value: object) -> int:
    """Return an integer that the protocol can carry, as Python's; raises TypeError, ValueError."""
    number = whole(what, value)
    if not 0 <= number <= MOST:
        raise ValueError(f"{what} is 0 or more, at most 2^53-1, not {number}")
    return number


def text(what: str, value: object) -> str:
    """Return a text that UTF-8 can carry; raises TypeError, ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is a str, not {value!r}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{what} cannot be written in UTF-8: {value!r}") from None
    return value


def name(what: str, value: object) -> str:
    """Return a name; raises TypeError, ValueError."""
    checked = text(what, value)
    if len(checked) > MAX_NAME_CHARS:
        raise ValueError(f"{what} has {len(checked)} characters; {MAX_NAME_CHARS} is the most")
    return checked


def sizes(what: str, value: object) -> dict[str, int]:
    """Return sizes by the names of their dims; raises TypeError, ValueError."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} are sizes by the names of dims, not {value!r}")
    if len(value) > MAX_MAXIMA:
        raise ValueError(f"{what} has {len(value)} dims; {MAX_MAXIMA} is the most")
    return {name(f"a dim of {what}", dim): count(f"{what}[{dim!r}]", size) for dim, size in value.items()}
