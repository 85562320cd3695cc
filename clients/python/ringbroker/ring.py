"""A ring: its memory, and which of its rows are leased (spec sections 6 to 8).

It outlives connections, and ends when its session is lost, when its model has changed, or when it is closed; the
`Model` then opens another one. Leases are given in order of arrival: while somebody waits for rows, nobody who comes
later gets any, so a lease of many rows is not starved by small ones.

There is no I/O here: who waits is a blocking client's `Call` or an asyncio client's future, and `wake` tells it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from ringbroker.errors import Error, error_of, fresh
from ringbroker.planes import Sample, sample_of
from ringbroker.rows import RingPlanes, Rows
from ringbuf.errors import Code
from ringbuf.ring import SlotAllocator
from ringbuf.wire import messages

# Views and frames of rows once used are kept, some 2 KB each: enough for every slot of most rings, as single rows.
KEPT_ROWS = 4096

L = TypeVar("L")
W = TypeVar("W")


class Ring(Generic[L, W]):
    """The slots of one model in one session; `link` is what keeps that session connected.

    `ended` says why it cannot be used any more, and stays. `load` counts the rows that are leased or waited for.
    """

    __slots__ = (
        "_allocator", "_kept", "_waiting", "_wake", "ended", "info", "link", "load", "lock", "planes", "signature",
    )  # fmt: skip

    def __init__(
        self,
        link: L,
        info: messages.Ring,
        buffer: memoryview,
        signature: messages.Signature,
        wake: Callable[[W, int | Error], None],
    ) -> None:
        self.link = link
        self.info = info
        self.signature = signature
        self.planes = RingPlanes(info, buffer, signature)
        self.ended: Error | None = None
        self.load = 0
        self.lock = threading.Lock()  # guards the allocator, the queue and leases' releases
        self._allocator = SlotAllocator(info.slots)
        self._kept: dict[tuple[int, int], Rows] = {}
        self._waiting: deque[tuple[W, int]] = deque()  # who waits for how many rows, the first first
        self._wake = wake

    def take(self, rows: int, make_waiter: Callable[[], W]) -> int | W:
        """Take `rows` adjacent rows: the first of them, or who now waits in the queue to be woken with it.

        Raises TooManyRows, or why the ring has ended.
        """
        if not 1 <= rows <= self.info.max_rows:
            raise error_of(Code.TOO_MANY_ROWS, f"1 to {self.info.max_rows} rows are possible, not {rows}", "rows")
        with self.lock:
            if self.ended is not None:
                raise fresh(self.ended)
            slot = None if self._waiting else self._allocator.take(rows)
            self.load += rows
            if slot is not None:
                return slot
            waiter = make_waiter()
            self._waiting.append((waiter, rows))
            return waiter

    def leave(self, waiter: W) -> bool:
        """Leave the queue; False where `waiter` has been woken already, and perhaps has rows."""
        with self.lock:
            for entry in self._waiting:
                if entry[0] is waiter:
                    self._waiting.remove(entry)
                    self.load -= entry[1]
                    self._grant()  # those behind may have waited for this one alone
                    return True
            return False

    def give_back(self, slot: int, rows: int) -> None:
        """Free rows, and give them to whoever waits for them."""
        with self.lock:
            self._allocator.give_back(slot, rows)
            self.load -= rows
            if self._waiting:
                self._grant()

    def rows(self, slot: int, count: int) -> Rows:
        """What is prepared for these rows."""
        kept = self._kept.get((slot, count))
        if kept is None:
            if len(self._kept) >= KEPT_ROWS:
                self._kept.clear()
            kept = self._kept[slot, count] = Rows(self.planes, slot, count)
        return kept

    def end(self, error: Error) -> None:
        """Be over because of `error`, or an earlier one; whoever waits for rows is told."""
        with self.lock:
            if self.ended is not None:
                return
            self.ended = error
            waiting, self._waiting = self._waiting, deque()
            for waiter, _ in waiting:
                self._wake(waiter, error)

    def samples_of(self, dims: Mapping[str, int]) -> dict[str, Sample]:
        """The shape of one row of each input with these sizes of its dynamic dims; the others at the ring's maximum.

        Raises ModelError UNKNOWN_DIM, MAXIMUM_TOO_LARGE.
        """
        unknown = dims.keys() - {dim for tensor in self.signature.inputs for dim in sample_of(tensor)}
        if unknown:
            raise error_of(Code.UNKNOWN_DIM, f"no input has the dim {min(unknown)!r}", f"dims.{min(unknown)}")
        samples = {}
        for tensor, plane in zip(self.signature.inputs, self.planes.inputs, strict=True):
            pattern = sample_of(tensor)
            sizes = [
                most if isinstance(dim, int) else dims.get(dim, most)
                for dim, most in zip(pattern, plane.sample, strict=True)
            ]
            for dim, size, most in zip(pattern, sizes, plane.sample, strict=True):
                if not 1 <= size <= most and dim in dims:
                    raise error_of(Code.MAXIMUM_TOO_LARGE, f"1 to {most} is possible, not {size}", f"dims.{dim}")
            samples[plane.name] = tuple(sizes)
        return samples

    def _grant(self) -> None:
        """Give free rows to those who wait, in order, until the first of them finds no gap. The lock is held."""
        while self._waiting:
            waiter, rows = self._waiting[0]
            slot = self._allocator.take(rows)
            if slot is None:
                return
            self._waiting.popleft()
            self._wake(waiter, slot)
