"""The cgroups that hold this process, of both versions: where its limits are read.

A limit is set on a cgroup or on any that holds it: the container's, which is the root of what the container sees, or a
systemd unit's, below the host's root. The least of them counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OURS = Path("/proc/self/cgroup")


def folders(controller: str) -> Iterator[Path]:
    """Where limits of `controller` (`cpu`, `memory`) may be, from our own cgroups up to the roots."""
    try:
        lines = _OURS.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "" or controller in controllers.split(","):
            root = _ROOT / controllers if controllers else _ROOT
            own = root / path.lstrip("/")
            yield from (own, *own.parents[: len(own.parts) - len(root.parts)])
    yield _ROOT  # a container's own root, where the path is told as the host sees it
