"""A session: one connection's protocol, rings and requests in flight (spec sections 4 to 10).

Bytes in, bytes out, no I/O:

    receive(data, now_ns)      what came from the client; requests that pass the checks go to the batcher
    out                        what is to be sent
    ended                      a 1xxx error is in `out`: send it, then close

It begins from a HELLO that was read by whoever accepted the connection (`broker.handshake`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from broker.batcher import Batch, Batcher, Form, Request
from broker.catalog import Catalog
from broker.control import RingRecord, Take
from broker.execution import Outcome
from broker.handshake import segment_kind
from broker.refusal import append_error
from broker.ring import Ring, descriptors, design_ring, remake_ring
from broker.stats import DROPPED_REQUESTS, IN_FLIGHT, REQUESTS, Stats
from broker.validation import check, look
from ringbuf.errors import Code, RingbrokerError, is_protocol_error, name_of
from ringbuf.wire import messages
from ringbuf.wire.framing import FrameReader
from ringbuf.wire.messages import NOTHING, Hello, Infer, Message, Result, RingState, append_frame, decode_client

log = logging.getLogger("broker.session")

_MUCH_LOOKED_AT_BYTES = 2**20  # 0.7 ms: then it is the others' turn, whatever else was read
_MUCH_BYTES = 64 * 1024  # two pages of the longest catalog: then it is the others' turn


class Keeper(Protocol):
    """Who makes the memory of rings, and keeps it while a session may be resumed: the supervisor."""

    def want(self, session: int, kind: str, ring: RingRecord) -> None:
        """Make memory for a ring; it is brought by `Session.give_memory`, or `Session.refuse_memory`."""

    def attached(self, session: int, ring: int) -> None:
        """The client has mapped the ring."""

    def freed(self, session: int, ring: int) -> None:
        """The ring is gone."""

    def ended(self, session: int, *, is_resumable: bool) -> None:
        """The session's connection is gone."""


@dataclass(frozen=True, slots=True)
class SessionContext:
    """What the sessions of one worker share."""

    catalog: Catalog
    batcher: Batcher
    stats: Stats
    limits: messages.Limits
    default_slots: int
    keeper: Keeper
    pool: str = "default"
    worker: int = 0
    workers: int = 1


class Session:
    """One client's rings and requests."""

    receive_bytes = 64 * 1024  # a thousand requests in one read
    patience_ns: int | None = None

    def __init__(self, take: Take, memory: Sequence[int], context: SessionContext, now_ns: int) -> None:
        """Begin, or go on where another worker was lost; `memory` is that of the rings of `take`, and is closed."""
        self.number = take.session
        self.client = take.hello.client
        self.connection: Any = None
        self.out = bytearray()
        self.descriptors: list[int] = []
        self.ended = False
        self.rings: dict[int, Ring] = {}
        self.in_flight: dict[int, Request] = {}
        self._context = context
        self._batcher = context.batcher
        self._page = context.stats.page
        self._kind = segment_kind(take.hello)
        self._opening: dict[int, tuple[int, Ring]] = {}  # by number: the id of the OPEN
        self._is_sent_away = False
        self._reader = FrameReader()
        self.has_more = False
        self._backlog: list[bytes] = []  # read, but not yet looked at
        self._is_costly = False  # the message just handled took long, or has a long answer
        self._ring_count = 0
        self._welcome(take, self._resume(take.rings, memory) if take.is_resumed else None, now_ns)

    def send_away(self, reason: str, grace_ms: int) -> None:
        """Tell the client to go on elsewhere."""
        self._is_sent_away = True
        append_frame(self.out, messages.GoAway(reason, grace_ms))

    def _welcome(self, take: Take, states: tuple[RingState, ...] | None, now_ns: int) -> None:
        context = self._context
        append_frame(
            self.out,
            messages.Welcome(
                messages.PROTOCOL_MAJOR,
                min(take.hello.minor, messages.PROTOCOL_MINOR),
                self.number,
                take.token,
                now_ns,
                context.limits,
                context.worker,
                context.workers,
                messages.WelcomeOptions(context.pool, states, take.lost),
            ),
        )

    def _resume(self, records: Sequence[RingRecord], memory: Sequence[int]) -> tuple[RingState, ...]:
        """Make the rings again; return what to tell of each."""
        states = []
        for record, fd in zip(records, memory, strict=True):
            self._ring_count = max(self._ring_count, record.number)
            code = 0
            try:
                ring = remake_ring(record, self._context.catalog.find(record.model, self._context.pool))
                ring.map(fd)
                self.rings[ring.number] = ring
            except RingbrokerError:
                code = int(Code.SIGNATURE_CHANGED)
                self._context.keeper.freed(self.number, record.number)
            finally:
                os.close(fd)
            states.append((record.number, code))
        return tuple(states)

    # --- bytes in ---

    def receive(self, data: bytes, now_ns: int) -> None:
        """Take bytes from the client; answers that need no model are in `out` afterwards.

        Where `has_more` is true then, not all that was read is done: call again, with no bytes, when others had a turn.
        """
        payloads = self._reader.feed(data)
        if self.has_more:
            payloads, self._backlog = self._backlog + payloads, []
            self.has_more = False
        for done, payload in enumerate(payloads, 1):
            try:
                message = decode_client(payload)
                if type(message) is Infer:  # the hot one first
                    self._infer(message, now_ns)
                else:
                    self._HANDLERS[type(message)](self, message)
            except RingbrokerError as error:
                self._refuse(None, error)
            if self.ended:
                return
            if self._is_costly:
                self._is_costly = False
                self._backlog = payloads[done:]
                self.has_more = True
                return
        if self._reader.error is not None:
            self._refuse(None, self._reader.error)

    def _infer(self, ask: Infer, now_ns: int) -> None:
        if ask.id in self.in_flight:
            raise _duplicate(ask.id)
        self._page[REQUESTS] += 1
        ring = self.rings.get(ask.ring)
        slot = ask.slot
        form: Form | None = None
        try:
            # The usual request, one full row, is known by one comparison of tuples (15 ns); `check` takes 2 us.
            if not (
                ring is not None
                and ask.rows == 1
                and slot < ring.slots
                and ask.inputs == ring.single_inputs[slot]
                and ask.outputs is None
                and ask.version is None
                and ring.attached
            ):
                ring, form = check(ring, ask)
            if ring.is_in_flight(slot, ask.rows):
                raise RingbrokerError(Code.ROWS_IN_FLIGHT, "a row belongs to a request that has no answer yet", "slot")
            if ring.looked_at_bytes:
                self._is_costly = ask.rows * ring.looked_at_bytes > _MUCH_LOOKED_AT_BYTES
                form = look(ring, slot, ask.rows, form)
        except RingbrokerError as error:
            self._refuse(ask.id, error)
            return
        model = ring.model if ring.family is None else ring.answering(ask.version)
        request = Request(self, ring, ask.id, slot, ask.rows, form, ask.deadline_ns, now_ns, ask.extra.trace, model)
        self.in_flight[ask.id] = request
        self._page[IN_FLIGHT] += 1
        self._batcher.add(request)

    def _hello(self, ask: Hello) -> None:
        raise RingbrokerError(Code.UNEXPECTED_MESSAGE, "a second HELLO")

    def _list(self, ask: messages.List) -> None:
        self._check_id(ask.id)
        models, next_page = self._context.catalog.page(ask.page)
        append_frame(self.out, messages.Models(ask.id, models, next_page))
        self._is_costly = len(self.out) > _MUCH_BYTES

    def _open(self, ask: messages.Open) -> None:
        self._check_id(ask.id)
        self._is_costly = True
        context = self._context
        try:
            family = context.catalog.find(ask.model, context.pool)
            if len(self.rings) + len(self._opening) >= context.limits.rings:
                raise RingbrokerError(Code.TOO_MANY_RINGS, f"{context.limits.rings} rings are the most")
            ring = design_ring(self._ring_count + 1, family, ask, context.limits, context.default_slots)
        except RingbrokerError as error:
            self._refuse(ask.id, error)
            return
        self._ring_count = ring.number
        self._opening[ring.number] = (ask.id, ring)
        context.keeper.want(self.number, self._kind, ring.record())

    def give_memory(self, number: int, fd: int, path: str | None) -> None:
        """The memory that a ring waited for; `fd` is the session's now."""
        request_id, ring = self._opening.pop(number)
        try:
            ring.map(fd)
        except RingbrokerError as error:
            os.close(fd)
            self._context.keeper.freed(self.number, number)
            self._refuse(request_id, error)
            return
        if self._kind == "fd":
            self.descriptors.append(fd)
        else:
            os.close(fd)
        self.rings[number] = ring
        append_frame(self.out, ring.message(request_id, self._kind, path))

    def refuse_memory(self, number: int, error: RingbrokerError) -> None:
        """There is no memory for a ring that waited for it."""
        request_id, _ = self._opening.pop(number)
        self._refuse(request_id, error)

    def _attached(self, ask: messages.Attached) -> None:
        ring = self.rings.get(ask.ring)
        if ring is None or ring.attached:
            raise RingbrokerError(Code.UNEXPECTED_MESSAGE, "no ring waits for this ATTACHED", "ring")
        if ask.code == 0:
            ring.attached = True
            self._context.keeper.attached(self.number, ring.number)
        else:
            self._free(ring)
            log.warning("attach failed", extra={"session": self.number, "ring": ask.ring, "code": name_of(ask.code)})

    def _cancel(self, ask: messages.Cancel) -> None:
        request = self.in_flight.get(ask.id)
        if request is not None and self._batcher.cancel(request):
            self.refuse_request(request, RingbrokerError(Code.CANCELLED, "cancelled before it was run"))

    def _close(self, ask: messages.Close) -> None:
        self._check_id(ask.id)
        ring = self.rings.get(ask.ring)
        if ring is None:
            self._refuse(ask.id, RingbrokerError(Code.UNKNOWN_RING, "this session has no such ring", "ring"))
            return
        for request in [request for request in self.in_flight.values() if request.ring is ring]:
            if self._batcher.cancel(request):
                self.refuse_request(request, RingbrokerError(Code.CANCELLED, "its ring was closed before it was run"))
        self._free(ring)
        append_frame(self.out, messages.Closed(ask.id, ask.ring))

    def _ping(self, ask: messages.Ping) -> None:
        append_frame(self.out, messages.Pong(ask.token))

    _HANDLERS: ClassVar[dict[type[Message], Callable[[Session, Any], None]]] = {
        Hello: _hello,
        messages.List: _list,
        messages.Open: _open,
        messages.Attached: _attached,
        messages.Cancel: _cancel,
        messages.Close: _close,
        messages.Ping: _ping,
    }

    # --- answers out ---

    def answer(self, batch: Batch, outcome: Outcome, started_ns: int, finished_ns: int) -> None:
        """Put the RESULT of every request of a batch into `out`; all of them are this session's.

        Requests that `closed` dropped meanwhile, because sending an earlier answer failed, are passed over.
        """
        ring = batch.ring
        compute_ns = finished_ns - started_ns
        version = batch.model.version
        shapes, batch_rows = outcome
        for request in batch.requests:
            if self.in_flight.pop(request.id, None) is None:
                continue
            self._page[IN_FLIGHT] -= 1
            form = request.form
            if request.rows == 1 and form is None and shapes is None:
                outputs = ring.single_outputs[request.slot]
            else:
                samples = shapes or (form and form.outputs)
                outputs = descriptors(ring.out_planes, request.slot, request.rows, samples)
            timings = (started_ns - request.received_ns, compute_ns)
            append_frame(self.out, Result(request.id, True, outputs, version, timings, batch_rows, NOTHING))

    def refuse_request(self, request: Request, error: RingbrokerError) -> None:
        """Answer a request with an ERROR, unless it was dropped; its rows are the client's again already."""
        if self.in_flight.pop(request.id, None) is not None:
            self._page[IN_FLIGHT] -= 1
            self._refuse(request.id, error)

    def expire(self) -> None:
        """Never called: a session has no end but its connection's."""

    def closed(self) -> None:
        """The connection is gone: drop every request that waits, let go of every ring."""
        self._drop_requests()
        self.rings.clear()
        while self.descriptors:
            os.close(self.descriptors.pop())
        self._context.keeper.ended(self.number, is_resumable=self._is_sent_away)

    def _check_id(self, request_id: int) -> None:
        if request_id in self.in_flight:
            raise _duplicate(request_id)

    def _drop_requests(self) -> None:
        self._page[DROPPED_REQUESTS] += len(self.in_flight)
        self._page[IN_FLIGHT] -= len(self.in_flight)
        for request in self.in_flight.values():
            self._batcher.cancel(request)
        self.in_flight.clear()

    def _free(self, ring: Ring) -> None:
        del self.rings[ring.number]
        self._context.keeper.freed(self.number, ring.number)

    def _refuse(self, request_id: int | None, error: RingbrokerError) -> None:
        append_error(self.out, self._context.stats, request_id, error)
        if is_protocol_error(error.code):
            self.ended = True
            self._drop_requests()  # now: the connection stays until the ERROR is sent
            log.warning(
                "protocol error",
                extra={
                    "session": self.number,
                    "client": self.client.name,
                    "code": name_of(error.code),
                    "path": error.path,
                },
            )


def _duplicate(request_id: int) -> RingbrokerError:
    return RingbrokerError(Code.DUPLICATE_ID, f"request {request_id} is still in flight", "id")
