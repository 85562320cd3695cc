"""A ring as its client sees it: which of its slots are taken (spec section 7, "Who owns the rows").

The client is the only allocator of its ring. Slots are given out next-fit, in ring order, so that leases taken one
after another are adjacent and their requests can run as one batch; a slow holder is skipped and blocks nobody.
"""

from __future__ import annotations


class SlotAllocator:
    """Says which slots of a ring are free. Not thread-safe: its owner locks."""

    __slots__ = ("_cursor", "_taken", "slots")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._taken = bytearray(slots)  # 1 for a taken slot; bytearray.find looks for a gap at memory speed
        self._cursor = 0

    def take(self, rows: int) -> int | None:
        """Take `rows` adjacent free slots; return the first, or None where there is no such gap now."""
        gap = bytes(rows)
        slot = self._taken.find(gap, self._cursor)
        if slot < 0:
            slot = self._taken.find(gap)
        if slot < 0:
            return None
        self._taken[slot : slot + rows] = b"\x01" * rows
        self._cursor = slot + rows
        return slot

    def give_back(self, slot: int, rows: int) -> None:
        """Free slots that `take` gave."""
        self._taken[slot : slot + rows] = bytes(rows)

    @property
    def free(self) -> int:
        """How many slots are free."""
        return self._taken.count(0)
