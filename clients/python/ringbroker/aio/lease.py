"""A lease of an asyncio client: adjacent rows of a ring, as `ringbroker.lease` (spec section 7)."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from ringbroker.aio.connection import Call, Connection
from ringbroker.aio.link import RingOf
from ringbroker.call import Answer, deadline_after
from ringbroker.errors import BrokerLost, Error, error_of
from ringbroker.lease import NOT_SENT
from ringbroker.planes import Arrays, Sample
from ringbroker.protocol import next_id
from ringbroker.result import Result, failure_of, rare_frame, result_of
from ringbroker.rows import ID_AT, Rows, pack_u64_into
from ringbroker.session import REPOSTS
from ringbuf.errors import Code
from ringbuf.wire import messages


class Lease:
    """Rows `[slot, slot+rows)` of every plane, until `release` or the end of the `async with` block.

    One task at a time; another one's `infer` meanwhile raises LeaseBusy. It outlives the connection: where that is
    lost, the rows and what is in them stay. Made by `Model.acquire`.
    """

    def __init__(self, ring: RingOf, rows: Rows, may_repost: bool) -> None:
        self._ring = ring
        self._link = ring.link
        self._rows = rows
        self._slot = rows.slot
        self._count = rows.count
        self._form = rows.full
        self._may_repost = may_repost
        self._is_busy = False
        self._is_released = False

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self._count

    @property
    def slot(self) -> int:
        """The first of them."""
        return self._slot

    @property
    def signature(self) -> messages.Signature:
        """The model's, as it was when these rows' ring was opened."""
        return self._ring.signature

    @property
    def inputs(self) -> Arrays:
        """By name, numpy views of shared memory to write into: `[rows, *sample]`, or what `shape` made of them.

        They are the lease's until `release`, and the broker's during `infer`. The rows hold what was last written
        there, by anybody. Raises LeaseReleased, and LeaseBusy after a timed-out or cancelled `infer` until the
        broker's answer.
        """
        self._check()
        return self._form.inputs

    def shape(self, /, **dims: int) -> Arrays:
        """Give dynamic dims their actual sizes; returns `inputs` with those shapes. See `ringbroker.Lease.shape`.

        Raises ModelError (UNKNOWN_DIM, MAXIMUM_TOO_LARGE), LeaseReleased, LeaseBusy.
        """
        self._check()
        return self._shape_samples(self._ring.samples_of(dims) if dims else {})

    async def infer(
        self, timeout: float | None = None, *, version: str | None = None, trace: str | None = None
    ) -> Result:
        """Run the model on the rows, and wait for the outputs: at most `timeout` seconds, None for as long as it takes.

        Arguments, errors, and what becomes of a request whose connection is lost, are those of
        `ringbroker.Lease.infer`. A task that is cancelled here asks the broker to drop the request, and leaves at
        once; the lease stays busy, and its rows taken, until the broker has answered.
        """
        self._check()
        deadline_ns = None if timeout is None else deadline_after(timeout)
        form = self._form
        connection = self._link.connection
        frame = form.frames.plain
        if deadline_ns is not None:
            frame = form.frames.timed
            pack_u64_into(frame, form.frames.deadline_at, deadline_ns + connection.protocol.clock_offset_ns)
        if version is not None or trace is not None:
            frame = rare_frame(frame, version, trace)
        call = Call()
        result: Result | None = None
        sent = 0
        self._is_busy = True
        try:
            while True:
                call = Call()
                is_sent, answer = await self._post(connection, call, frame, deadline_ns)
                if type(answer) is not BrokerLost:
                    break
                sent += is_sent
                answer = await self._go_on(connection, answer, deadline_ns, sent)
                if answer is not None:
                    break
                connection = self._link.connection
            if answer is not None:
                result = result_of(answer, form, self._rows)
        finally:
            if call.late is None:
                self._settle(None)
        if answer is None:
            raise error_of(Code.TIMEOUT, "the broker has not answered in time")
        if result is None:
            raise self._failure(answer, connection)
        return result

    def release(self) -> None:
        """Give the rows back: at once, or with the broker's answer where a request is still in flight.

        Nothing that this lease gave may be used afterwards: the rows are somebody else's. Raises LeaseReleased the
        second time.
        """
        if self._is_released:
            raise self._refusal()
        self._is_released = True
        if not self._is_busy:
            self._free()

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_released:
            self.release()

    async def _post(
        self, connection: Connection, call: Call, frame: bytearray, deadline_ns: int | None
    ) -> tuple[bool, Answer | None]:
        """Send the request; returns whether the broker can have seen it, and its answer, None where the time was up."""
        protocol = connection.protocol
        if not protocol.is_taking or self._ring.ended is not None:
            return False, NOT_SENT
        number = next_id()
        pack_u64_into(frame, ID_AT, number)
        protocol.calls[number] = call
        is_sent = connection.send(frame)
        try:
            await call.wait(deadline_ns)
        finally:
            answer = connection.cancel(number, call, self._settle)
        return is_sent, answer

    async def _go_on(self, lost: Connection, answer: Error, deadline_ns: int | None, sent: int) -> Error | None:
        """Take the session up after a loss; returns what the request ends in, None where it is to be sent again.

        `sent`: how often the broker may have seen it.
        """
        is_over = sent > REPOSTS or (sent > 0 and not self._may_repost)
        if self._ring.ended is not None:
            return self._ring.ended
        try:
            await self._link.connect(self._link.patience(deadline_ns), is_patient=False)
        except Error as error:
            return answer if is_over else error
        if sent > 0 and lost.lost is not None:
            return error_of(lost.lost, "the broker ended the worker that had the request")
        return answer if is_over else self._ring.ended

    def _shape_samples(self, samples: Mapping[str, Sample]) -> Arrays:
        """As `shape`, but with the whole shape of one row of each input that is not at full size; raises WRONG_DIM."""
        self._form = self._rows.shape(samples)
        return self._form.inputs

    def _failure(self, answer: Answer, connection: Connection) -> Error:
        error = failure_of(answer, self._ring.ended)
        if error.code == Code.BAD_ANSWER:
            connection.end(error)
        return error

    def _check(self) -> None:
        if self._is_released or self._is_busy:
            raise self._refusal()

    def _refusal(self) -> Error:
        if self._is_released:
            return error_of(Code.LEASE_RELEASED, "the lease has been released")
        return error_of(Code.LEASE_BUSY, "the lease's last request is still in flight")

    def _settle(self, _: Answer | None) -> None:
        """The request is over: the rows are ours again, or free."""
        self._is_busy = False
        if self._is_released:
            self._free()

    def _free(self) -> None:
        """Give the rows back, and keep nothing of the memory."""
        self._ring.give_back(self._slot, self._count)
        del self._form, self._rows
