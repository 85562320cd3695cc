"""How many CPUs this process may use: the smaller of its affinity and the CPU quotas of its cgroups, at least 1.

A quota is set on a cgroup or on any that holds it: the container's, which is the root of what the container sees, or a
systemd unit's, below the host's root. Of version 2 that is `cpu.max`, of version 1 `cpu.cfs_quota_us` over
`cpu.cfs_period_us`. A thread more than the quota allows is a thread that waits for the others: the kernel stops all of
them when it is used up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OURS = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """Return the whole CPUs that the affinity and every readable quota leave."""
    cpus = len(os.sched_getaffinity(0))
    return max(1, min([cpus, *map(int, _quotas())]))


def _quotas() -> Iterator[float]:
    """The quotas, in CPUs, of our cgroups and those that hold them."""
    for folder in _folders():
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if quota != "max" and int(quota) > 0:  # version 1 writes -1 for none
                yield int(quota) / int(period)
        except (OSError, ValueError):
            continue  # no such controller here


def _folders() -> Iterator[Path]:
    """Where our quotas may be, from our own cgroups up to the roots."""
    try:
        lines = _OURS.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "" or "cpu" in controllers.split(","):
            root = _CGROUPS / controllers if controllers else _CGROUPS
            own = root / path.lstrip("/")
            yield from (own, *own.parents[: len(own.parts) - len(root.parts)])
    yield _CGROUPS  # a container's own root, where the path is told as the host sees it
