"""Tensors that an operator declared, brought into the order in which a model's file has them.

A file may name its inputs or outputs without saying what they are. Where the declaration has just those names, they
are matched by name; where it has none of them, by position. Anything between would hand a model the wrong tensor
without a word, so it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ringbuf.errors import Code, RingbrokerError


def in_file_order(declared: Mapping[str, str], names: Sequence[str], side: str, path: str) -> dict[str, str]:
    """Return `declared` in the order of `names`, which are the file's; as it is where it has none of them.

    Raises `RingbrokerError` CONFIG_INVALID for some names but not all, and for another number of tensors.
    """
    known = [name for name in declared if name in names]
    if len(declared) != len(names):
        text = f"{len(declared)} {side} are declared, and the file has {len(names)}: {', '.join(names)}"
        raise RingbrokerError(Code.CONFIG_INVALID, text, path)
    if len(known) == len(names):
        return {name: declared[name] for name in names}
    if known:
        text = f"the file's {side} are {', '.join(names)}: declare them by these names, or by others in this order"
        raise RingbrokerError(Code.CONFIG_INVALID, text, f"{path}.{known[0]}")
    return dict(declared)
