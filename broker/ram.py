"""How much memory this process may use: the smaller of the host's and the limits of its cgroups.

A limit is `memory.max` in version 2 of cgroups, and `memory.limit_in_bytes` in version 1. A process that takes more is
ended by the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from broker import cgroups


def usable_bytes() -> int:
    """Return what the host has, or the least readable limit where that is less."""
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_limits()])


def _limits() -> Iterator[int]:
    for folder in cgroups.folders("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                yield int((folder / name).read_text())
            except (OSError, ValueError):  # no such controller here, or "max"
                continue
