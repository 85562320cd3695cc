"""A lease: one caller's hold on adjacent rows of a ring, from acquire to release (spec section 7).

Its request in flight owns the rows: until the broker's final answer the lease is busy, also where `infer` has returned
because its time was up, and a release in between takes effect with that answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from time import monotonic_ns
from types import TracebackType

import msgspec

from ringbroker.call import LONGEST_S, Answer, Call, deadline_after
from ringbroker.errors import Error, LeaseBusy, LeaseReleased, error_of, fresh, told
from ringbroker.planes import Array, Arrays, Sample, fits
from ringbroker.ring import Ring
from ringbroker.rows import ID_AT, Form, Rows, pack_u64_into
from ringbuf.errors import Code
from ringbuf.wire import messages
from ringbuf.wire.framing import LENGTH_BYTES

MAX_NAME_CHARS = 128  # a longer trace is cut, so that it cannot end the session


class Result(msgspec.Struct, frozen=True, eq=False):  # a msgspec struct is made in 44 ns, a class with slots in 103
    """What one request gave. `result["logits"]` is `result.outputs["logits"]`.

    `outputs`: by name, numpy views of shared memory, `[rows, *sample]` of the output's dtype, of the actual shape: an
    open dim (one that is no input's) has the size that the model gave it, which may be 0. They are the lease's: valid
    until its next `infer` or its release, and the same array objects for the same rows; copy what must outlive that.
    """

    outputs: Arrays
    _answer: messages.Result

    def __getitem__(self, name: str) -> Array:
        return self.outputs[name]

    @property
    def version(self) -> str:
        """The model's version that answered."""
        return self._answer.version

    @property
    def queue_ns(self) -> int:
        """From the broker's receipt of the request to the start of its batch."""
        return self._answer.timings[0]

    @property
    def compute_ns(self) -> int:
        """The model's run."""
        return self._answer.timings[1]

    @property
    def batch_rows(self) -> int:
        """The rows of the batch that it ran in, those of other requests included."""
        return self._answer.batch_rows


class Lease:
    """Rows `[slot, slot+rows)` of every plane, until `release` or the end of the `with` block.

    One thread at a time; another one's `infer` meanwhile raises LeaseBusy. Made by `Model.acquire`.
    """

    __slots__ = (
        "_busy",
        "_call",
        "_calls",
        "_connection",
        "_form",
        "_is_released",
        "_next_id",
        "_ring",
        "_rows",
    )

    def __init__(self, ring: Ring, rows: Rows) -> None:
        self._ring = ring
        self._rows = rows
        self._form = rows.full
        self._connection = ring.connection
        self._calls = ring.connection.protocol.calls
        self._next_id = ring.connection.protocol.next_id
        self._call = Call()
        # Held while a request is in flight, and for ever by the one that returned the rows. It makes releasing and
        # finishing meet exactly once: each says what it did first, and then tries the lock.
        self._busy = Lock()
        self._is_released = False

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self._rows.count

    @property
    def slot(self) -> int:
        """The first of them."""
        return self._rows.slot

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
        if not samples:
            self._form = self._rows.full
            return self._form.inputs
        for index, plane in enumerate(self._ring.planes.inputs):
            if not fits(samples.get(plane.name, plane.sample), plane):
                given = samples[plane.name]
                text = f"a row of {plane.name!r} is at most {plane.sample}, at least 1 in every dim, not {given}"
                raise error_of(Code.WRONG_DIM, text, f"inputs[{index}].shape")
        self._form = self._rows.shape(samples)
        return self._form.inputs

    def infer(self, timeout: float | None = None, *, version: str | None = None, trace: str | None = None) -> Result:
        """Run the model on the rows, and wait for the outputs: at most `timeout` seconds, None for as long as it takes.

        `version` asks for that version of the model; `trace` goes into the broker's log lines about this request.

        The timeout is the broker's deadline too: a request that has not begun to run by then is not run. When the time
        is up, the call raises at once, and the lease stays busy until the broker has answered.

        Raises Timeout or DeadlineExceeded (both TimeoutError), ModelFailed and other ExecutionErrors, Cancelled,
        UnknownVersion, BrokerLost (retry with a new lease), BadAnswer, LeaseReleased, LeaseBusy, ClientClosed.
        """
        # The hot path: 2 us, 0.35 of it msgspec decoding. Frames, views and descriptors were made with the rows.
        if self._busy.locked() and not self._is_answered():
            raise self._refusal()
        call = self._call
        form = self._form
        answer = result = None
        number = stage = 0  # how far a request is that a signal handler's exception ends: 1 known, 2 sent
        try:
            if not self._busy.acquire(False):
                raise self._refusal()
            if timeout is None:
                deadline_ns = None
                frame = form.frames.plain
            else:
                deadline_ns = (
                    monotonic_ns() + int(timeout * 1e9) if 0 <= timeout < LONGEST_S else deadline_after(timeout)
                )
                frame = form.frames.timed
                at = form.frames.deadline_at
                pack_u64_into(frame, at, deadline_ns + self._connection.protocol.clock_offset_ns)
            call.answer = None
            number = self._next_id()
            pack_u64_into(frame, ID_AT, number)
            if version is not None or trace is not None or self._ring.is_closed:
                frame = self._rare_frame(frame, version, trace)
            stage = 1
            self._calls[number] = call
            self._connection.send(frame)
            stage = 2
            answer = self._connection.wait(call, deadline_ns)
            if answer is None:
                answer = self._connection.cancel(number, call, self._settle)
            if answer is not None:
                if type(answer) is messages.Result and answer.outputs == form.expected:  # all checks in 45 ns
                    result = Result(form.outputs, answer)
                else:
                    result = self._other_result(answer, form)
                self._busy.release()
        except BaseException as error:
            self._give_up(error, number, stage, answer)
            raise
        if answer is None:
            raise error_of(Code.TIMEOUT, "the broker has not answered in time")
        if self._is_released:  # by another thread, meanwhile
            self._return_rows()
        if result is None:
            raise self._failure(answer)
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

    def _other_result(self, answer: Answer | int, form: Form) -> Result | None:
        """The result that has an open dim below its maximum; None where the answer is none."""
        if type(answer) is messages.Result:
            views = self._rows.view_outputs(answer.outputs, form)
            if views is not None:
                return Result(views, answer)
        return None

    def _rare_frame(self, frame: bytearray, version: str | None, trace: str | None) -> bytearray:
        """The frame of a request with a version or a trace: decoded, changed, encoded."""
        if self._ring.is_closed:
            raise self._ring.closed_error()
        infer = messages.decode_client(bytes(frame[LENGTH_BYTES:]))
        assert isinstance(infer, messages.Infer)
        extra = messages.InferExtra(None if trace is None else trace[:MAX_NAME_CHARS])
        return bytearray(messages.encode_frame(msgspec.structs.replace(infer, version=version, extra=extra)))

    def _failure(self, answer: Answer | int) -> Error:
        """What to raise for an answer that is no good RESULT."""
        if isinstance(answer, messages.Error):
            if self._ring.is_closed:
                return self._ring.closed_error()
            return told(answer)
        if isinstance(answer, Error):
            return fresh(answer)
        if isinstance(answer, messages.Result):
            return self._connection.refuse("RESULT describes what is not an output of these rows", "outputs")
        return self._connection.refuse(f"{type(answer).__name__} answers INFER")

    def _refusal(self) -> Error:
        """Why a busy lease cannot be used."""
        if self._is_released:
            return error_of(Code.LEASE_RELEASED, "the lease has been released")
        return error_of(Code.LEASE_BUSY, "the lease's last request is still in flight")

    def _is_answered(self) -> bool:
        """Whether the request that the lease was busy with, and that nobody waits for, has its answer by now."""
        if self._call.is_abandoned and not self._is_released:
            self._connection.look()
        return not self._busy.locked()

    def _give_up(self, error: BaseException, number: int, stage: int, answer: Answer | int | None) -> None:
        """`infer` ends with an exception that is no answer: its own, or one that a signal handler raised anywhere."""
        if isinstance(error, LeaseBusy | LeaseReleased):
            return
        if answer is None and stage == 2 and number in self._calls:
            answer = self._connection.cancel(number, self._call, self._settle)
            if answer is None:
                return
        if answer is None and stage > 0 and self._call.answer is None:
            # Nobody knows whether it was sent, or where its answer is. The next call connects again.
            self._connection.lose("a signal handler raised while a request was being sent or an answer taken")
        self._settle(answer)

    def _settle(self, _: Answer | int | None) -> None:
        """The request is over and nobody waits for it: the rows are ours again, or free."""
        self._call.is_abandoned = False
        self._call.late = None
        if self._is_released:
            self._ring.give_back(self._rows)
            return
        if self._busy.locked():
            self._busy.release()
        if self._is_released:
            self._return_rows()

    def _return_rows(self) -> None:
        """Free the rows of a released lease, once; not while a request is in flight."""
        if self._busy.acquire(False):
            self._ring.give_back(self._rows)
