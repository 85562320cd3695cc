"""Whether an op that is given its `out` writes there: found out by watching what it allocates.

Many out-variants make the result in memory of their own and copy it: the caller saves nothing, and a ledger that says
so would lie. A result that is copied was somewhere before, so such an op allocates at least the result's size; one
that writes into `out` does not. (A `copy_` inside an op says less: `addmm.out` begins with one, of the broadcast bias.)

The allocations are read one by one from torch's first profiler. The newer one takes 1.2 s to start in every worker, and
writes to its stderr; this one takes 7 ms (measured), and needs no thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import Node

from broker.engine.inplace.outvariants import name_of
from broker.engine.inplace.redirection import Redirected


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


class Watch:
    """Sees what the ops that write allocate."""

    def __init__(self, redirected: Redirected) -> None:
        self._writers = redirected.writers
        self._allocated_bytes: dict[Node, int] = {}
        self._failed: Node | None = None

    def around(self, node: Node, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that does the same, watched where the node writes an output."""
        if node not in self._writers:
            return function

        def watched(*arguments: Any, **named: Any) -> None:
            self._failed = node
            self._allocated_bytes[node] = largest_allocation_bytes(lambda: function(*arguments, **named))
            self._failed = None

        return watched

    def dishonest(self, outputs: Sequence[torch.Tensor]) -> dict[int, str]:
        """The outputs of which the op allocated as much as they take."""
        return {
            index: f"{name_of(node)} allocates the result and copies it"
            for node, indices in self._writers.items()
            for index in indices
            if self._allocated_bytes[node] >= max(outputs[index].nbytes, 1)
        }

    def blamed(self, how: str) -> dict[int, str]:
        """The outputs of the op that raised; of all of them, where it was another."""
        nodes = list(self._writers) if self._failed is None else [self._failed]
        return {index: f"{name_of(node)} {how}" for node in nodes for index in self._writers[node]}


def _configuration() -> Any:
    kinds: Any = torch._C._profiler

    shapes, memory, stack, flops, modules = False, True, False, False, False
    return kinds.ProfilerConfig(
        kinds.ProfilerState.CPU, shapes, memory, stack, flops, modules, kinds._ExperimentalConfig()
    )
