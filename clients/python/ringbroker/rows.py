"""Rows `[slot, slot+rows)` of every plane of a ring, and the INFER that hands them over: made once, used many times.

Everything about a request that does not change from one to the next is here, finished, as its `Form`: the numpy views,
the descriptors that the RESULT must have, and the INFER as bytes, into which only the id and the deadline are written
(spec sections 6, 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from types import MappingProxyType

from ringbroker.errors import error_of
from ringbroker.planes import Array, Arrays, Sample, descriptors_of, fits, is_within, sample_of, view_rows
from ringbroker.protocol import FIRST_ID
from ringbuf.errors import Code
from ringbuf.wire import messages
from ringbuf.wire.messages import NO_INFER_EXTRA, Descriptors, Infer, Plane, Signature

# Length (4 bytes), array header, the message's number, 0xcf of a nine-byte integer; then the id.
ID_AT = 7
# The end of a frame with a deadline, written as a nine-byte integer: the deadline, a nil version, an empty extra.
DEADLINE_FROM_END = 10

pack_u64_into = Struct(">Q").pack_into  # 48 ns; building and encoding the Infer anew takes 250 ns and up


class Frames:
    """An INFER as bytes, without and with a deadline. Ids and deadlines of 2^32 to 2^64-1 may be written into it.

    `deadline_at` is where the deadline goes in `timed`. (A deadline in the first four seconds after boot is not in
    msgpack's shortest form then; every reader accepts it.)
    """

    __slots__ = ("deadline_at", "plain", "timed")

    def __init__(self, ring: int, slot: int, rows: int, inputs: Descriptors) -> None:
        def encode(deadline_ns: int | None) -> bytearray:
            infer = Infer(FIRST_ID, ring, slot, rows, inputs, None, deadline_ns, None, NO_INFER_EXTRA)
            return bytearray(messages.encode_frame(infer))

        self.plain = encode(None)
        self.timed = encode(FIRST_ID)
        self.deadline_at = len(self.timed) - DEADLINE_FROM_END


class RingPlanes:
    """A ring's checked planes, and what the signature calls their dims."""

    __slots__ = ("_in_dims", "_out_dims", "inputs", "number", "open_axes", "outputs")

    def __init__(self, ring: messages.Ring, signature: Signature) -> None:
        self.number = ring.ring
        self.inputs: tuple[Plane, ...] = tuple(plane for plane in ring.planes if plane.direction == "in")
        self.outputs: tuple[Plane, ...] = tuple(plane for plane in ring.planes if plane.direction == "out")
        self._in_dims = [sample_of(tensor) for tensor in signature.inputs]
        self._out_dims = [sample_of(tensor) for tensor in signature.outputs]
        of_inputs = {dim for dims in self._in_dims for dim in dims}
        # By output: the axes of one row whose size is known when the model has run.
        self.open_axes = [
            {axis for axis, dim in enumerate(dims) if isinstance(dim, str) and dim not in of_inputs}
            for dims in self._out_dims
        ]

    def output_samples(self, inputs: Mapping[str, Sample]) -> dict[str, Sample]:
        """The shape of one row of each output, where rows of the inputs have these; open dims at the maximum."""
        sizes: dict[int | str, int] = {}
        for plane, dims in zip(self.inputs, self._in_dims, strict=True):
            sizes.update(zip(dims, inputs.get(plane.name, plane.sample), strict=True))
        return {
            plane.name: tuple(
                sizes.get(dim, most) if isinstance(dim, str) else most
                for dim, most in zip(dims, plane.sample, strict=True)
            )
            for plane, dims in zip(self.outputs, self._out_dims, strict=True)
        }


class Form:
    """Rows of every plane, as a request of certain shapes sees them.

    `inputs` and `outputs` are views of shared memory, `[rows, *sample]` by name; `expected` is what the RESULT's
    descriptors are, where every open dim is at its maximum.
    """

    __slots__ = ("expected", "frames", "inputs", "outputs")

    def __init__(
        self, planes: RingPlanes, buffer: memoryview, slot: int, rows: int, samples: Mapping[str, Sample]
    ) -> None:
        out_samples = planes.output_samples(samples)
        self.inputs: Arrays = _view(planes.inputs, buffer, slot, rows, samples)
        self.outputs: Arrays = _view(planes.outputs, buffer, slot, rows, out_samples)
        self.expected: Descriptors = descriptors_of(planes.outputs, slot, rows, out_samples)
        self.frames = Frames(planes.number, slot, rows, descriptors_of(planes.inputs, slot, rows, samples))


class Rows:
    """Adjacent rows of every plane; `full` is the form of a request in which no dim is shorter than the ring's.

    They hold the ring's memory, and so does nothing else but the ring until its end: it is unmapped with the last
    lease's rows, or the last view of them.
    """

    __slots__ = ("_buffer", "_planes", "count", "full", "slot")

    def __init__(self, planes: RingPlanes, buffer: memoryview, slot: int, count: int) -> None:
        self.slot = slot
        self.count = count
        self.full = Form(planes, buffer, slot, count, {})
        self._planes = planes
        self._buffer = buffer

    def shape(self, samples: Mapping[str, Sample]) -> Form:
        """The form of a request with other shapes of one row of these inputs; raises RingError (WRONG_DIM) for what
        does not fit.
        """
        if not samples:
            return self.full
        for index, plane in enumerate(self._planes.inputs):
            if not fits(samples.get(plane.name, plane.sample), plane):
                given = samples[plane.name]
                text = f"a row of {plane.name!r} is at most {plane.sample}, at least 1 in every dim, not {given}"
                raise error_of(Code.WRONG_DIM, text, f"inputs[{index}].shape")
        return Form(self._planes, self._buffer, self.slot, self.count, samples)

    def view_outputs(self, outputs: Descriptors, form: Form) -> Arrays | None:
        """Views of the outputs that a RESULT describes; None where it describes what a request of this form cannot
        have.
        """
        if len(outputs) != len(form.expected):
            return None
        samples = {}
        planes, open_axes = self._planes.outputs, self._planes.open_axes
        for plane, axes, given, expected in zip(planes, open_axes, outputs, form.expected, strict=True):
            (offset, shape, dtype), (full_offset, most, full_dtype) = given, expected
            if (offset, dtype, shape[:1]) != (full_offset, full_dtype, most[:1]):
                return None
            if not is_within(shape[1:], most[1:], axes):
                return None
            samples[plane.name] = shape[1:]
        return _view(planes, self._buffer, self.slot, self.count, samples)


def _view(planes: tuple[Plane, ...], buffer: memoryview, slot: int, rows: int, samples: Mapping[str, Sample]) -> Arrays:
    views: dict[str, Array] = {
        plane.name: view_rows(plane, buffer, slot, rows, samples.get(plane.name)) for plane in planes
    }
    return MappingProxyType(views)  # cached and shared by every lease of these rows, so nobody may change it
