"""A ring on one connection: its memory, and which of its rows are leased (spec sections 6 to 8).

A ring dies with its connection; the `Model` then opens another one. Leases are given in order of arrival: while
somebody waits for rows, nobody who comes later gets any, so a lease of many rows is not starved by small ones.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

from ringbroker.call import Answer, Call
from ringbroker.connection import Connection
from ringbroker.errors import Error, error_of, fresh
from ringbroker.planes import Sample, find_fault, sample_of
from ringbroker.rows import RingPlanes, Rows
from ringbuf import segment
from ringbuf.errors import Code, RingbrokerError
from ringbuf.ring import SlotAllocator
from ringbuf.wire import messages

# Views and frames of rows once used are kept, some 2 KB each: enough for every slot of most rings, as single rows.
KEPT_ROWS = 4096


class Ring:
    """The slots of one model, as long as `connection` lives. `is_closed` once CLOSE was sent."""

    __slots__ = ("_allocator", "_kept", "_waiting", "connection", "info", "is_closed", "lock", "planes", "signature")

    def __init__(
        self, connection: Connection, info: messages.Ring, buffer: memoryview, signature: messages.Signature
    ) -> None:
        self.connection = connection
        self.info = info
        self.signature = signature
        self.is_closed = False
        self.planes = RingPlanes(info, buffer, signature)
        self._allocator = SlotAllocator(info.slots)
        self._kept: dict[tuple[int, int], Rows] = {}
        self.lock = threading.Lock()  # guards the allocator, the queue and leases' releases
        self._waiting: deque[tuple[Call, int]] = deque()  # who waits for how many rows, the first first

    def take(self, rows: int, deadline_ns: int | None) -> Rows:
        """Take `rows` adjacent rows, waiting until `deadline_ns` for them to be free.

        Raises TooManyRows, AcquireTimeout, BrokerLost, ClientClosed.
        """
        if not 1 <= rows <= self.info.max_rows:
            raise error_of(Code.TOO_MANY_ROWS, f"1 to {self.info.max_rows} rows are possible, not {rows}", "rows")
        with self.lock:
            slot = None if self._waiting else self._allocator.take(rows)
            if slot is None:
                call = Call()
                self._waiting.append((call, rows))
        if slot is None:
            slot = self._wait(call, rows, deadline_ns)
        kept = self._kept.get((slot, rows))
        return kept if kept is not None else self._keep(slot, rows)

    def give_back(self, rows: Rows) -> None:
        """Free rows, and give them to whoever waits for them."""
        with self.lock:
            self._allocator.give_back(rows.slot, rows.count)
            if self._waiting:
                self._grant()

    def close(self) -> None:
        """Send CLOSE, without waiting for CLOSED; whoever waits for rows gets ClientClosed. Idempotent."""
        with self.lock:
            if self.is_closed:
                return
            self.is_closed = True
            waiting, self._waiting = self._waiting, deque()
            for call, _ in waiting:
                self.connection.deliver(call, self.closed_error())
        if self.connection.error is None:
            number = self.info.ring
            self.connection.post(lambda request: messages.Close(request, number))

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

    def closed_error(self) -> Error:
        """What to raise where this ring is used after its close."""
        return error_of(Code.CLIENT_CLOSED, "the model was closed")

    def _wait(self, call: Call, rows: int, deadline_ns: int | None) -> int:
        """Wait in the queue; returns the first row."""
        try:
            answer = self.connection.watch(call, deadline_ns)
        except BaseException:
            self._leave(call, rows)
            raise
        if answer is None:
            answer = call.answer if not self._leave(call, None) else None
        elif isinstance(answer, Error):
            self._leave(call, None)
        if isinstance(answer, int):
            return answer
        if isinstance(answer, Error):
            raise fresh(answer)
        raise error_of(Code.ACQUIRE_TIMEOUT, f"no {rows} adjacent free rows in time")

    def _leave(self, call: Call, return_rows: int | None) -> bool:
        """Leave the queue; False where the call is not in it: its rows go back then, `return_rows` of them."""
        with self.lock:
            for entry in self._waiting:
                if entry[0] is call:
                    self._waiting.remove(entry)
                    self._grant()  # those behind may have waited for this one alone
                    return True
            if return_rows is not None and isinstance(call.answer, int):
                self._allocator.give_back(call.answer, return_rows)
                self._grant()
            return False

    def _grant(self) -> None:
        """Give free rows to those who wait, in order, until the first of them finds no gap. The lock is held."""
        while self._waiting:
            call, rows = self._waiting[0]
            slot = self._allocator.take(rows)
            if slot is None:
                return
            self._waiting.popleft()
            self.connection.deliver(call, slot)

    def _keep(self, slot: int, rows: int) -> Rows:
        if len(self._kept) >= KEPT_ROWS:
            self._kept.clear()
        made = self._kept[slot, rows] = Rows(self.planes, slot, rows)
        return made


def open_ring(
    connection: Connection,
    model: str,
    version: str | None,
    slots: int,
    maxima: dict[str, int],
    signature: messages.Signature,
    deadline_ns: int | None,
) -> Ring:
    """Open a ring of the model with that signature, and map it.

    Raises the broker's error, AttachFailed, Timeout, BrokerLost or BadAnswer.
    """

    def drop(answer: Answer | int) -> None:
        """A RING that came after the deadline: the broker need not keep it."""
        if isinstance(answer, messages.Ring):
            connection.send(messages.encode_frame(messages.Attached(answer.ring, Code.ATTACH_FAILED)))

    def request(number: int) -> messages.Open:
        return messages.Open(number, model, version, slots, maxima, messages.NOTHING)

    info = connection.ask(request, messages.Ring, deadline_ns, drop)
    fault = find_fault(info, signature)
    if fault is not None:
        raise connection.refuse(f"RING: {fault[0]}", fault[1])
    try:
        mapped = segment.attach(info.segment.path or "", info.segment.bytes)
    except RingbrokerError as error:
        connection.send(messages.encode_frame(messages.Attached(info.ring, Code.ATTACH_FAILED)))
        raise fresh(error) from error
    connection.send(messages.encode_frame(messages.Attached(info.ring, 0)))
    return Ring(connection, info, mapped.buffer, signature)
