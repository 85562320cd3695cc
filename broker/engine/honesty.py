"""Whether an op that is given its `out` writes there: found out by watching what it allocates.

Many out-variants make the result in memory of their own and copy it: the caller saves nothing, and a ledger that says
so would lie. A result that is copied was somewhere before, so such an op allocates at least the result's size; one
that writes into `out` does not. (A `copy_` inside an op says less: `addmm.out` begins with one, of the broadcast bias.)

The allocations are read one by one from torch's first profiler. The newer one takes 1.2 s to start in every worker, and
writes to its stderr; this one takes 7 ms (measured), and needs no thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def largest_allocation_bytes(call: Callable[[], Any]) -> int:
    """Run `call`, and return the size of the largest piece of memory that torch allocated for a tensor in it."""
    profiler: Any = torch.autograd  # of which the stubs know nothing
    profiler._enable_profiler_legacy(_configuration())
    try:
        call()
    finally:
        threads = profiler._disable_profiler_legacy()
    sizes = [event.cpu_memory_usage() for events in threads for event in events if event.kind() == "memory_alloc"]
    return max(sizes, default=0)


def _configuration() -> Any:
    kinds: Any = torch._C._profiler

    shapes, memory, stack, flops, modules = False, True, False, False, False
    return kinds.ProfilerConfig(
        kinds.ProfilerState.CPU, shapes, memory, stack, flops, modules, kinds._ExperimentalConfig()
    )
