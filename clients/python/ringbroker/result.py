"""What one request gave, and what to raise where it gave something else (spec section 7)."""

from __future__ import annotations

import msgspec

from ringbroker import arguments
from ringbroker.errors import Error, error_of, fresh, told
from ringbroker.planes import Array, Arrays
from ringbroker.rows import Form, Rows
from ringbuf.errors import Code
from ringbuf.wire import messages
from ringbuf.wire.framing import LENGTH_BYTES


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


def result_of(answer: object, form: Form, rows: Rows) -> Result | None:
    """The result that an answer tells; None where it is none of a request of that form."""
    if type(answer) is not messages.Result:
        return None
    if answer.outputs == form.expected:  # all checks of the usual one in 45 ns
        return Result(form.outputs, answer)
    views = rows.view_outputs(answer.outputs, form)
    return None if views is None else Result(views, answer)


def failure_of(answer: object, ended: Error | None) -> Error:
    """What to raise for an answer that is no good RESULT; `ended` is why the ring is over, if it is.

    A BadAnswer is for the caller to end the connection with.
    """
    if isinstance(answer, messages.Error):
        return told(answer) if ended is None else fresh(ended)
    if isinstance(answer, Error):
        return fresh(answer)
    if isinstance(answer, messages.Result):
        return error_of(Code.BAD_ANSWER, "RESULT describes what is not an output of these rows", "outputs")
    return error_of(Code.BAD_ANSWER, f"{type(answer).__name__} answers INFER")


def rare_frame(frame: bytearray, version: str | None, trace: str | None) -> bytearray:
    """The frame of a request with a version or a trace: decoded, changed, encoded. A trace that is too long is cut.

    Raises TypeError, ValueError.
    """
    version = None if version is None else arguments.name("version", version)
    trace = None if trace is None else arguments.text("trace", trace)[: arguments.MAX_NAME_CHARS]
    infer = messages.decode_client(bytes(frame[LENGTH_BYTES:]))
    assert isinstance(infer, messages.Infer)
    extra = messages.InferExtra(trace)
    return bytearray(messages.encode_frame(msgspec.structs.replace(infer, version=version, extra=extra)))
