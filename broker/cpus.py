"""How many CPUs this process may use: the smaller of its affinity and the CPU quotas of its cgroups, at least 1.

Of version 2 of cgroups that is `cpu.max`, of version 1 `cpu.cfs_quota_us` over `cpu.cfs_period_us`. A thread more than
the quota allows is a thread that waits for the others: the kernel stops all of them when it is used up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from broker import cgroups


def usable_cpus() -> int:
    """Return the whole CPUs that the affinity and every readable quota leave."""
    cpus = len(os.sched_getaffinity(0))
    return max(1, min([cpus, *map(int, _quotas())]))


def _quotas() -> Iterator[float]:
    """The quotas, in CPUs, of our cgroups and those that hold them."""
    for folder in cgroups.folders("cpu"):
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if quota != "max" and int(quota) > 0:  # version 1 writes -1 for none
                yield int(quota) / int(period)
        except (OSError, ValueError):
            continue  # no such controller here
