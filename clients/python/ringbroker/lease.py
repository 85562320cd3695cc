"""A lease: one caller's hold on adjacent rows of a ring, from acquire to release (spec section 7).

Its request in flight owns the rows: until the broker's final answer the lease is busy, also where `infer` has returned
because its time was up, and a release in between takes effect with that answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from time import monotonic_ns
from types import TracebackType

from ringbroker.call import LONGEST_S, Answer, Call, deadline_after
from ringbroker.connection import Connection
from ringbroker.errors import BrokerLost, Error, LeaseBusy, LeaseReleased, error_of
from ringbroker.link import RingOf
from ringbroker.planes import Arrays, Sample
from ringbroker.protocol import next_id
from ringbroker.result import Result, failure_of, rare_frame, result_of
from ringbroker.rows import ID_AT, Rows, pack_u64_into
from ringbroker.session import REPOSTS
from ringbuf.errors import Code
from ringbuf.wire import messages

NOT_SENT = error_of(Code.BROKER_LOST, "the request was not sent")


class Lease:
    """Rows `[slot, slot+rows)` of every plane, until `release` or the end of the `with` block.

    One thread at a time; another one's `infer` meanwhile raises LeaseBusy. It outlives the connection: where that is
    lost, the rows and what is in them stay. Made by `Model.acquire`.
    """

    __slots__ = ("_busy", "_call", "_count", "_form", "_is_released", "_link", "_may_repost", "_ring", "_rows", "_slot")

    def __init__(self, ring: RingOf, rows: Rows, may_repost: bool) -> None:
        self._ring = ring
        self._link = ring.link
        self._rows = rows
        self._slot = rows.slot
        self._count = rows.count
        self._form = rows.full
        self._may_repost = may_repost
        self._call = Call()
        # Held while a request is in flight, and for ever by the one that returned the rows. It makes releasing and
        # finishing meet exactly once: each says what it did first, and then tries the lock.
        self._busy = Lock()
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
        there, by anybody. Raises LeaseReleased, and LeaseBusy after a timed-out `infer` until the broker's answer.
        """
        if self._busy.locked() and not self._is_answered():
            raise self._refusal()
        return self._form.inputs

    def shape(self, /, **dims: int) -> Arrays:
        """Give dynamic dims their actual sizes, for this lease's next requests; returns `inputs` with those shapes.

        A dim that is not named is at the ring's maximum. Shorter tensors are packed at the front of their rows (spec
        section 6): with several rows the view is strided, and `view[i]` is row i, contiguous. What is in the rows
        already is not moved.

        Raises ModelError (UNKNOWN_DIM, MAXIMUM_TOO_LARGE), LeaseReleased, LeaseBusy.
        """
        if self._busy.locked() and not self._is_answered():
            raise self._refusal()
        return self._shape_samples(self._ring.samples_of(dims) if dims else {})

    def _shape_samples(self, samples: Mapping[str, Sample]) -> Arrays:
        """As `shape`, but with the whole shape of one row of each input that is not at full size.

        Raises RingError (WRONG_DIM) for what does not fit the ring.
        """
        self._form = self._rows.shape(samples)
        return self._form.inputs

    def infer(self, timeout: float | None = None, *, version: str | None = None, trace: str | None = None) -> Result:
        """Run the model on the rows, and wait for the outputs: at most `timeout` seconds, None for as long as it takes.

        `version` asks for that version of the model, and `Result.version` tells which one answered; `trace` goes into
        the broker's log lines about this request.

        The timeout is the broker's deadline too: a request that has not begun to run by then is not run. When the time
        is up, the call raises at once, and the lease stays busy until the broker has answered.

        Where the connection is lost, it is made again, and the lease goes on with the same rows. The request itself is
        sent again if the broker cannot have seen it, or if the model was opened with `repost`; else it is BrokerLost.

        Raises Timeout or DeadlineExceeded (both TimeoutError), ModelFailed and other ExecutionErrors, Cancelled,
        UnknownVersion, BrokerLost (retryable: call again, or with a new lease), SignatureChanged (acquire a new
        lease), BadAnswer, LeaseReleased, LeaseBusy, ClientClosed; TypeError and ValueError for arguments that cannot be
        sent.
        """
        # The hot path: 2 us, 0.35 of it msgspec decoding. Frames, views and descriptors were made with the rows.
        # `_prepare` is its one call that is there for the reader (70 ns). Sending and waiting stay in one function with
        # the `except`, which must know how far they came when a signal handler raises between any two of their steps.
        if self._busy.locked() and not self._is_answered():
            raise self._refusal()
        call, ring = self._call, self._ring
        connection = self._link.connection
        answer: Answer | None = None
        result: Result | None = None
        number = stage = sent = 0  # stage: how far a request is that a signal handler's exception ends, 2 is sent
        try:
            if not self._busy.acquire(False):
                raise self._refusal()
            frame, deadline_ns = self._prepare(connection, timeout)
            if version is not None or trace is not None:
                frame = rare_frame(frame, version, trace)
            while True:
                call.answer = None
                number = next_id()
                pack_u64_into(frame, ID_AT, number)
                protocol = connection.protocol
                stage = 1
                protocol.calls[number] = call  # and then `is_taking` is read: who drains does it the other way round
                if protocol.is_taking and ring.ended is None:
                    is_sent = connection.send(frame)
                    stage = 2
                    answer = connection.wait(call, deadline_ns)
                    if answer is None:
                        answer = connection.cancel(number, call, self._settle)
                else:
                    protocol.calls.pop(number, None)
                    is_sent, answer = False, NOT_SENT
                if type(answer) is not BrokerLost:
                    break
                stage = 0
                sent += is_sent
                answer = self._go_on(connection, answer, deadline_ns, sent)
                if answer is not None:
                    break
                connection = self._link.connection
            if answer is not None:
                form = self._form
                if type(answer) is messages.Result and answer.outputs == form.expected:  # all checks in 45 ns
                    result = Result(form.outputs, answer)
                else:
                    result = result_of(answer, form, self._rows)
                self._busy.release()
        except BaseException as error:
            self._give_up(error, connection, number, stage, answer)
            raise
        if answer is None:
            raise error_of(Code.TIMEOUT, "the broker has not answered in time")
        if self._is_released:  # by another thread, meanwhile
            self._return_rows()
        if result is None:
            raise self._failure(answer, connection)
        return result

    def release(self) -> None:
        """Give the rows back: at once, or with the broker's answer where a request is still in flight.

        Nothing that this lease gave may be used afterwards: the rows are somebody else's. Raises LeaseReleased the
        second time.
        """
        with self._ring.lock:
            if self._is_released:
                raise self._refusal()
            self._is_released = True
        self._return_rows()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_released:
            self.release()

    def _prepare(self, connection: Connection, timeout: float | None) -> tuple[bytearray, int | None]:
        """The request as a frame without its id, and when its time is up."""
        frames = self._form.frames
        if timeout is None:
            return frames.plain, None
        deadline_ns = monotonic_ns() + int(timeout * 1e9) if 0 <= timeout < LONGEST_S else deadline_after(timeout)
        pack_u64_into(frames.timed, frames.deadline_at, deadline_ns + connection.protocol.clock_offset_ns)
        return frames.timed, deadline_ns

    def _go_on(self, lost: Connection, answer: Error, deadline_ns: int | None, sent: int) -> Error | None:
        """Take the session up after a loss; returns what the request ends in, None where it is to be sent again.

        `sent`: how often the broker may have seen it.
        """
        is_over = sent > REPOSTS or (sent > 0 and not self._may_repost)
        if self._ring.ended is not None:
            return self._ring.ended
        try:
            self._link.connect(self._link.patience(deadline_ns), is_patient=False)
        except Error as error:
            return answer if is_over else error
        if sent > 0 and lost.lost is not None:
            return error_of(lost.lost, "the broker ended the worker that had the request")
        return answer if is_over else self._ring.ended

    def _failure(self, answer: Answer, connection: Connection) -> Error:
        """What to raise for an answer that is no good RESULT."""
        error = failure_of(answer, self._ring.ended)
        if error.code == Code.BAD_ANSWER:
            connection.end(error)
        return error

    def _refusal(self) -> Error:
        """Why a busy lease cannot be used."""
        if self._is_released:
            return error_of(Code.LEASE_RELEASED, "the lease has been released")
        return error_of(Code.LEASE_BUSY, "the lease's last request is still in flight")

    def _is_answered(self) -> bool:
        """Whether the request that the lease was busy with, and that nobody waits for, has its answer by now."""
        if self._call.is_abandoned and not self._is_released:
            self._link.connection.look()
        return not self._busy.locked()

    def _give_up(
        self, error: BaseException, connection: Connection, number: int, stage: int, answer: Answer | None
    ) -> None:
        """`infer` ends with an exception that is no answer: its own, or one that a signal handler raised anywhere."""
        if isinstance(error, LeaseBusy | LeaseReleased):
            return
        if answer is None and stage == 2 and number in connection.protocol.calls:
            answer = connection.cancel(number, self._call, self._settle)
            if answer is None:
                return
        if answer is None and stage > 0 and self._call.answer is None:
            # Nobody knows whether it was sent, or where its answer is. The next call connects again.
            connection.lose("a signal handler raised while a request was being sent or an answer taken")
        self._settle(answer)

    def _settle(self, _: Answer | None) -> None:
        """The request is over and nobody waits for it: the rows are ours again, or free."""
        self._call.is_abandoned = False
        self._call.late = None
        if self._is_released:
            self._free()
            return
        if self._busy.locked():
            self._busy.release()
        if self._is_released:
            self._return_rows()

    def _return_rows(self) -> None:
        """Free the rows of a released lease, once; not while a request is in flight."""
        if self._busy.acquire(False):
            self._free()

    def _free(self) -> None:
        """Give the rows back, and keep nothing of the memory."""
        self._ring.give_back(self._slot, self._count)
        del self._form, self._rows
