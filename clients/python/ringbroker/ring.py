"""A ring: its memory, and which of its rows are leased (spec sections 6 to 8).

It outlives connections, and ends when its session is lost, when its model has changed, or when it is closed; the
`Model` then opens another one. Who waits for rows, waits at the `Rings` of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ringbroker.arguments import whole
from ringbroker.errors import Error, error_of
from ringbroker.planes import Sample, sample_of
from ringbroker.rows import RingPlanes, Rows
from ringbuf.errors import Code
from ringbuf.ring import SlotAllocator
from ringbuf.wire import messages

if TYPE_CHECKING:
    from ringbroker.rings import Rings

# Views and frames of rows once used are kept, some 2 KB each: enough for every slot of most rings, as single rows.
KEPT_ROWS = 4096

L = TypeVar("L")


class Ring(Generic[L]):
    """The slots of one model in one session; `link` is what keeps that session connected, `rings` are the model's.

    `ended` says why it cannot be used any more, and stays. `load` counts the rows that are leased. A ring that has
    ended holds no memory; its leases do.
    """

    __slots__ = (
        "_allocator", "_buffer", "_kept", "_rings", "ended", "info", "link", "load", "lock", "planes", "signature",
    )  # fmt: skip

    def __init__(
        self, link: L, info: messages.Ring, buffer: memoryview, signature: messages.Signature, rings: Rings[Any, Any]
    ) -> None:
        self.link = link
        self.info = info
        self.signature = signature
        self.planes = RingPlanes(info, signature)
        self.ended: Error | None = None
        self.load = 0
        self.lock = rings.lock
        self._rings = rings
        self._buffer: memoryview | None = buffer
        self._allocator = SlotAllocator(info.slots)
        self._kept: dict[tuple[int, int], Rows] = {}

    def lend(self, rows: int) -> int | None:
        """Take `rows` adjacent rows: the first of them, None where there are none. The lock is held."""
        if self.ended is not None or rows > self.info.max_rows:
            return None
        slot = self._allocator.take(rows)
        if slot is not None:
            self.load += rows
        return slot

    def give_back(self, slot: int, rows: int) -> None:
        """Free rows, and give them to whoever waits for them."""
        with self.lock:
            self._allocator.give_back(slot, rows)
            self.load -= rows
            if self._rings.waiting:
                self._rings.grant()

    def rows(self, slot: int, count: int) -> Rows | None:
        """What is prepared for these rows; None where the ring has ended meanwhile."""
        kept = self._kept.get((slot, count))
        buffer = self._buffer
        if kept is None and buffer is not None:
            if len(self._kept) >= KEPT_ROWS:
                self._kept.clear()
            kept = self._kept[slot, count] = Rows(self.planes, buffer, slot, count)
            if self._buffer is None:  # as `end` says before it clears them
                self._kept.clear()
        return kept

    def end(self, error: Error) -> None:
        """Be over because of `error`, or an earlier one; whoever waits for rows is told, and begins anew."""
        with self.lock:
            if self.ended is None:
                self.ended = error
                self._rings.tell(error)
        self._buffer = None
        self._kept.clear()

    def samples_of(self, dims: Mapping[str, int]) -> dict[str, Sample]:
        """The shape of one row of each input with these sizes of its dynamic dims; the others at the ring's maximum.

        Raises TypeError, and ModelError UNKNOWN_DIM, MAXIMUM_TOO_LARGE.
        """
        dims = {dim: whole(dim, size) for dim, size in dims.items()}
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
