"""What a table says about a model: the keys of `model.toml`, and of a `[[model]]` of the broker's file.

They are the fields of `ModelConfig`; `factory` names a factory instead of a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broker import tables
from broker.engine.config import Canary, is_range
from broker.tables import Key, is_number, is_text, is_whole
from ringbuf.errors import RingbrokerError


def read(
    table: Mapping[str, Any], keys: Mapping[str, Key], base: Path, path: str, problems: list[RingbrokerError]
) -> dict[str, Any]:
    """The fields of a `ModelConfig` that a table says; `base` is the folder to which its paths are relative.

    What is wrong is appended to `problems`, with places below `path`.
    """
    values = tables.read(table, keys, path, problems)
    if "weights" in values:
        values["weights"] = str(base / values["weights"])
    if "canary" in values:
        known = len(problems)
        said = tables.read(values.pop("canary"), _CANARY, f"{path}.canary", problems)
        if len(problems) == known:
            values["canary"] = Canary(**said)
    return values


def _whole(least: int) -> Key:
    return Key(f"a whole number from {least}", lambda value: is_whole(value, least))


_FLAG = Key("true or false", lambda value: isinstance(value, bool))
_TENSORS = Key("a table such as { image = 'F32[batch,8,8]' }", tables.table_of(is_text))
_CANARY = {
    "version": Key("a version's name, such as '2'", is_text, is_needed=True),
    "percent": Key(
        "a number from 0 to 100", lambda value: is_number(value) and 0 <= value <= 100, float, is_needed=True
    ),
    "seed": _whole(0),
}

VERSION_KEYS: dict[str, Key] = {
    "version": Key("a version's name, such as '1'", is_text),
    "versions": Key("a list of versions' names, such as ['1', '2']", tables.list_of(is_text), tuple),
    "canary": Key("a table such as { version = '2', percent = 5 }", tables.is_table),
}
"""Which versions of a model are served: said of a model, and of none of its versions."""

KEYS: dict[str, Key] = {
    "factory": Key("a text such as 'package.module:factory'", is_text),
    "inputs": _TENSORS,
    "outputs": _TENSORS,
    "maxima": Key("a table such as { seq = 256 }", tables.table_of(lambda value: is_whole(value, 1))),
    "ranges": Key(
        "a table such as { ids = [0, 30521] }, the smaller number first",
        tables.table_of(is_range),
        lambda table: {name: (low, high) for name, (low, high) in table.items()},
    ),
    "uniform": Key("a list of inputs' names", tables.list_of(is_text), frozenset),
    "arguments": Key("a table of the factory's arguments", tables.is_table),
    "weights": Key("a file's path", is_text),
    "max_batch": _whole(1),
    "max_queue_delay_us": Key("a whole number of microseconds", lambda value: is_whole(value, 0)),
    "gather": Key("'never' or 'always'", lambda value: value in ("never", "always")),
    "batch_tolerance": Key("a number from 0", lambda value: is_number(value) and value >= 0),
    "private_inputs": _FLAG,
    "allow_pickle": _FLAG,
    "require_zero_copy": _FLAG,
}
