"""The memory maker: segments are made on a thread of their own, so that nobody waits while 1 GiB is being filled.

The one thread beside the supervisor's loop. It makes memory and puts it where the loop finds it; it shares nothing
else. What it does in the kernel is done without the GIL.

What is being made counts as taken, so that rings that are opened at the same time have no more than is allowed.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from broker.control import Want
from ringbuf.errors import Code, RingbrokerError
from ringbuf.segment import Memory


class Done(NamedTuple):
    """A wish, and what became of it."""

    want: Want
    asker: object
    outcome: Memory | RingbrokerError
    reserved_bytes: int
    """What was held back for it."""


class MemoryMaker:
    """Makes the memory that is wished for, one after the other."""

    def __init__(self, create: Callable[[int, str], Memory]) -> None:
        """`create` makes memory of a size and a kind, or raises `RingbrokerError`."""
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable when `done` has something."""
        self.making_bytes = 0
        """Of the rings that did not come out of `done` yet."""
        self._create = create
        self._wishes: queue.SimpleQueue[tuple[Want, object] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="memory", daemon=True)
        self._thread.start()

    def want(self, want: Want, asker: object, used_bytes: int, limit_bytes: int) -> None:
        """Make memory for a ring; it comes out of `done` together with `asker`.

        `used_bytes` is what all rings have; where this one would bring it over `limit_bytes`, SHM_FULL comes out.
        """
        size_bytes, used_bytes = want.ring.size_bytes, used_bytes + self.making_bytes
        if used_bytes + size_bytes <= limit_bytes:
            self.making_bytes += size_bytes
            self._wishes.put((want, asker))
        else:
            text = f"no room for a ring of {size_bytes} bytes: {used_bytes} of the {limit_bytes} for all rings are used"
            self._give(Done(want, asker, RingbrokerError(Code.SHM_FULL, text), 0))

    def done(self) -> Iterator[Done]:
        """What has been made meanwhile."""
        os.eventfd_read(self.wake)
        while not self._done.empty():
            done = self._done.get()
            self.making_bytes -= done.reserved_bytes
            yield done

    def close(self) -> None:
        """End the thread, and free what nobody took."""
        self._wishes.put(None)
        self._thread.join()
        while not self._done.empty():
            outcome = self._done.get().outcome
            if isinstance(outcome, Memory):
                outcome.free()
        os.close(self.wake)

    def _work(self) -> None:
        while (wish := self._wishes.get()) is not None:
            want, asker = wish
            outcome: Memory | RingbrokerError
            try:
                outcome = self._create(want.ring.size_bytes, want.kind)
            except RingbrokerError as error:
                outcome = error
            self._give(Done(want, asker, outcome, want.ring.size_bytes))

    def _give(self, done: Done) -> None:
        self._done.put(done)
        os.eventfd_write(self.wake, 1)
