"""The batcher: which requests run together, and when (DESIGN section 5). Events in, batches out; no clock, no I/O.

    add(request)        a request came
    start(now_ns)       -> the next batch to run, or None
    finish(batch)       it ran: its rows are the client's again

A batch is the longest run of adjacent rows around the oldest request of a ring, of one form, up to the model's
`max_batch`: a slice of every plane, so nothing is gathered. A model that gathers gets further runs with it, of the same
ring and of others. Rings are served in turn. A request whose deadline has passed never gets into a batch: it is put
into `expired`.

A model may let its requests wait for others (`max_queue_delay_ns`): a ring of it is passed over until a request has
waited so long, or half of what its deadline left it, or until the rows of a whole batch wait in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from broker.engine.signature import Shape

if TYPE_CHECKING:
    from broker.engine.models import Model
    from broker.ring import Ring
    from broker.session import Session


class Form(NamedTuple):
    """What requests must have in common to run together, beyond the usual: a full row of every plane."""

    inputs: tuple[Shape, ...]
    """The shape of one row of every input, which may be shorter than the ring's maximum."""
    outputs: tuple[Shape, ...]
    """The same of every output; open dims at the ring's maximum."""
    uniform: tuple[bytes, ...] = ()
    """The values of the uniform inputs, copied from the client's memory once."""


class Request(Struct, gc=False):
    """One INFER that passed every check. (A msgspec struct: 45 ns to make, a plain class 150.)"""

    session: Session
    ring: Ring
    id: int
    slot: int
    rows: int
    form: Form | None
    """None where every row is as large as the plane's sample: the usual case."""
    deadline_ns: int | None
    received_ns: int
    trace: str | None
    model: Model
    """The version that answers it."""


class Batch(Struct, gc=False):
    """Requests that run in one forward call: rows `[slot, slot+rows)` of `ring`, requests in the order of their
    rows. `gathered` are further runs of the same model and form, to be copied together with this one.
    """

    model: Model
    ring: Ring
    slot: int
    rows: int
    form: Form | None
    requests: list[Request]
    gathered: tuple[Batch, ...] = ()


class RingQueue:
    """The requests of one ring that wait, oldest first, to be found by the row where they begin or end."""

    __slots__ = ("by_end", "by_slot", "due_ns", "in_turn", "rows")

    def __init__(self) -> None:
        self.by_slot: dict[int, Request] = {}
        self.by_end: dict[int, Request] = {}
        self.in_turn = False
        self.rows = 0
        self.due_ns = 0
        """No request is to be run before; only kept where the model lets them wait."""

    def remove(self, request: Request) -> None:
        del self.by_slot[request.slot]
        del self.by_end[request.slot + request.rows]
        self.rows -= request.rows

    def oldest(self) -> Request:
        """The request that has waited longest; there is one."""
        return next(iter(self.by_slot.values()))


class Batcher:
    """Collects the requests of all rings and makes batches of them."""

    def __init__(self) -> None:
        self.expired: list[Request] = []
        """Requests that `start` found too late; whoever answers them empties the list."""
        self._turns: deque[Ring] = deque()

    @property
    def has_waiting(self) -> bool:
        """Whether `start` has something to do."""
        return bool(self._turns)

    def add(self, request: Request) -> None:
        """Take a request; its rows are the broker's until `finish`, `cancel` or `expired`."""
        ring = request.ring
        ring.claim(request.slot, request.rows)
        queue = ring.queue
        queue.by_slot[request.slot] = request
        queue.by_end[request.slot + request.rows] = request
        queue.rows += request.rows
        if ring.model.max_queue_delay_ns:
            due_ns = _latest_start_ns(request)
            queue.due_ns = due_ns if len(queue.by_slot) == 1 else min(due_ns, queue.due_ns)
        if not queue.in_turn:
            queue.in_turn = True
            self._turns.append(ring)

    def due_ns(self) -> int | None:
        """When `start` has something to do: 0 for at once, None while nothing waits."""
        due_ns = None
        for ring in self._turns:
            ring_ns = _due_ns(ring)
            if ring_ns == 0:
                return 0
            due_ns = ring_ns if due_ns is None else min(due_ns, ring_ns)
        return due_ns

    def start(self, now_ns: int) -> Batch | None:
        """Return the next batch, or None where every waiting request had expired, none waits, or none is due yet."""
        for _ in range(len(self._turns)):
            ring = self._turns.popleft()
            requests = self._longest_run(ring.queue, ring.max_batch, now_ns) if _is_due(ring, now_ns) else []
            if ring.queue.by_slot:
                self._turns.append(ring)
            else:
                ring.queue.in_turn = False
            if requests:
                batch = _batch_of(requests)
                if ring.model.gathers and batch.rows < ring.max_batch:
                    batch.gathered = tuple(self._gather(batch, now_ns))
                return batch
        return None

    def finish(self, batch: Batch) -> None:
        """Give the rows of a batch back."""
        batch.ring.release(batch.slot, batch.rows)
        for run in batch.gathered:
            run.ring.release(run.slot, run.rows)

    def cancel(self, request: Request) -> bool:
        """Take a waiting request out; False where it is running, or done, already."""
        queue = request.ring.queue
        if queue.by_slot.get(request.slot) is not request:
            return False
        queue.remove(request)
        request.ring.release(request.slot, request.rows)
        return True

    def _gather(self, batch: Batch, now_ns: int) -> Iterator[Batch]:
        """Take further runs of the batch's model and form, from its own ring and the others in turn, while they fit."""
        room = batch.ring.max_batch - batch.rows
        form = batch.form or batch.ring.full_form  # a full row of one ring may be a short one of another
        for ring in [ring for ring in self._turns if ring.model is batch.ring.model]:
            queue = ring.queue
            for request in list(queue.by_slot.values()) if room else ():
                is_taken = queue.by_slot.get(request.slot) is not request  # into the run of one before it
                is_alike = (request.form or ring.full_form) == form and request.model is batch.model
                if is_taken or not is_alike or request.rows > room:
                    continue  # another form: the oldest of its ring is the first in its next turn
                queue.remove(request)
                if not self._is_late(request, now_ns):
                    run = _batch_of(self._run_around(request, queue, room, now_ns))
                    room -= run.rows
                    yield run
            if not queue.by_slot:
                self._turns.remove(ring)
                queue.in_turn = False

    def _longest_run(self, queue: RingQueue, max_batch: int, now_ns: int) -> list[Request]:
        """Take the oldest request that is in time, and its neighbours of the same sample shape on both sides."""
        if len(queue.by_slot) == 1:  # low load: no neighbour to look for, 0.4 us saved
            _, only = queue.by_slot.popitem()
            queue.by_end.clear()
            queue.rows = 0
            return [] if self._is_late(only, now_ns) else [only]
        head = self._oldest(queue, now_ns)
        return [] if head is None else self._run_around(head, queue, max_batch, now_ns)

    def _run_around(self, head: Request, queue: RingQueue, max_batch: int, now_ns: int) -> list[Request]:
        """Take the neighbours of a request that was taken: the run, in the order of its rows."""
        run = deque([head])
        rows, slot, end = head.rows, head.slot, head.slot + head.rows
        while (after := self._neighbour(queue.by_slot.get(end), head, max_batch - rows, now_ns)) is not None:
            queue.remove(after)
            run.append(after)
            rows += after.rows
            end += after.rows
        while (before := self._neighbour(queue.by_end.get(slot), head, max_batch - rows, now_ns)) is not None:
            queue.remove(before)
            run.appendleft(before)
            rows += before.rows
            slot -= before.rows
        return list(run)

    def _oldest(self, queue: RingQueue, now_ns: int) -> Request | None:
        while queue.by_slot:
            oldest = queue.oldest()
            queue.remove(oldest)
            if not self._is_late(oldest, now_ns):
                return oldest
        return None

    def _neighbour(self, request: Request | None, head: Request, room: int, now_ns: int) -> Request | None:
        """The request itself if it may join `head`'s batch."""
        if request is None or request.rows > room or request.form != head.form or request.model is not head.model:
            return None
        if request.deadline_ns is not None and request.deadline_ns <= now_ns:
            return None  # its own turn comes, and finds it late
        return request

    def _is_late(self, request: Request, now_ns: int) -> bool:
        if request.deadline_ns is None or request.deadline_ns > now_ns:
            return False
        request.ring.release(request.slot, request.rows)
        self.expired.append(request)
        return True


def _batch_of(requests: list[Request]) -> Batch:
    first, last = requests[0], requests[-1]
    return Batch(first.model, first.ring, first.slot, last.slot + last.rows - first.slot, first.form, requests)


def _due_ns(ring: Ring) -> int:
    """When the ring is to be served, or earlier; 0 where the rows of a whole batch wait, the model lets nothing wait,
    or all were cancelled.
    """
    queue = ring.queue
    if ring.model.max_queue_delay_ns == 0 or not queue.by_slot or queue.rows >= ring.max_batch:
        return 0
    return queue.due_ns


def _is_due(ring: Ring, now_ns: int) -> bool:
    due_ns = _due_ns(ring)
    if 0 < due_ns <= now_ns:  # the request that was in a hurry may be gone
        due_ns = ring.queue.due_ns = min(map(_latest_start_ns, ring.queue.by_slot.values()))
    return due_ns <= now_ns


def _latest_start_ns(request: Request) -> int:
    """When a request that may wait is to be run: after its model's delay, or half of what its deadline leaves it."""
    delay_ns = request.ring.model.max_queue_delay_ns
    if request.deadline_ns is not None:
        delay_ns = min(delay_ns, (request.deadline_ns - request.received_ns) // 2)
    return request.received_ns + delay_ns
