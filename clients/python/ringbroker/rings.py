"""The rings of a model, one on each connection: which one lends rows, and who waits for them (spec section 7).

Leases are given in order of arrival, of the first ring that has the rows: while somebody waits, nobody who comes later
gets any, so a lease of many rows is not starved by small ones.

There is no I/O here: who waits is a blocking client's `Call` or an asyncio client's, and `wake` tells it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from ringbroker.errors import Error, error_of
from ringbroker.ring import Ring
from ringbuf.errors import Code

L = TypeVar("L")
Grant: TypeAlias = tuple[Ring[L], int]  # the ring, and the first of the rows


class Waiter(Protocol):
    """Who waits; `answer` is what `wake` brought."""

    @property
    def answer(self) -> Any:
        """None until it is woken."""


W = TypeVar("W", bound=Waiter)


class Rings(Generic[L, W]):
    """The rings that there are, or were: one that has ended stays until another takes its place."""

    __slots__ = ("_wake", "all", "lock", "waiting")

    def __init__(self, wake: Callable[[W, Grant[L] | Error], None]) -> None:
        self.all: list[Ring[L]] = []
        self.lock = threading.Lock()  # guards the rings' allocators, the queue and leases' releases
        self.waiting: deque[tuple[W, int]] = deque()  # who waits for how many rows, the first first
        self._wake = wake

    def best(self) -> Ring[L]:
        """The ring with the fewest rows taken; one that has ended before all others, so that it is opened anew."""
        return self.all[0] if len(self.all) == 1 else min(self.all, key=_load)

    def put(self, index: int, ring: Ring[L]) -> None:
        """Have a new ring, in the place of one that has ended."""
        with self.lock:
            self.all[index : index + 1] = [ring]
            self.grant()

    def take(self, ring: Ring[L], rows: int, make_waiter: Callable[[], W]) -> Grant[L] | W | None:
        """Take `rows` adjacent rows, of `ring` or else of another; or who now waits in the queue to be woken with them.

        None where `ring` has ended. Raises TooManyRows.
        """
        if not 1 <= rows <= ring.info.max_rows:
            raise error_of(Code.TOO_MANY_ROWS, f"1 to {ring.info.max_rows} rows are possible, not {rows}", "rows")
        with self.lock:
            if ring.ended is not None:
                return None
            if not self.waiting:
                slot = ring.lend(rows)
                if slot is not None:
                    return ring, slot
            waiter = make_waiter()
            self.waiting.append((waiter, rows))
            if len(self.all) > 1:
                self.grant()
            return waiter

    def leave(self, waiter: W) -> bool:
        """Leave the queue; False where `waiter` has been woken already, and perhaps has rows."""
        with self.lock:
            for entry in self.waiting:
                if entry[0] is waiter:
                    self.waiting.remove(entry)
                    self.grant()  # those behind may have waited for this one alone
                    return True
            return False

    def give_up(self, waiter: W, rows: int) -> None:
        """Leave the queue, or give back the rows with which `waiter` has been woken just now."""
        if not self.leave(waiter) and isinstance(waiter.answer, tuple):
            ring, slot = waiter.answer
            ring.give_back(slot, rows)

    def grant(self) -> None:
        """Give free rows to those who wait, in order, until no ring has a gap for the first. The lock is held."""
        while self.waiting:
            waiter, rows = self.waiting[0]
            for ring in self.all:
                slot = ring.lend(rows)
                if slot is not None:
                    break
            else:
                return
            self.waiting.popleft()
            self._wake(waiter, (ring, slot))

    def tell(self, error: Error) -> None:
        """A ring has ended: whoever waits begins anew. The lock is held."""
        waiting, self.waiting = self.waiting, deque()
        for waiter, _ in waiting:
            self._wake(waiter, error)


def _load(ring: Ring[Any]) -> int:
    return ring.load if ring.ended is None else -1
