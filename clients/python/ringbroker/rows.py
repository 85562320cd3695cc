"""Rows `[slot, slot+rows)` of every plane of a ring, and the INFER that hands them over: made once, used many times.

Everything about a request that does not change from one to the next is here, finished: the numpy views, the descriptors
that the RESULT must have, and the INFER as bytes, into which only the id and the deadline are written (spec sections
6, 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from types import MappingProxyType

from ringbroker.planes import Array, Arrays, Sample, descriptors_of, fits, view_rows
from ringbroker.protocol import FIRST_ID
from ringbuf.wire import messages
from ringbuf.wire.messages import NO_INFER_EXTRA, Descriptors, Infer, Plane

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
    """A ring's checked planes and the memory they lie in."""

    __slots__ = ("buffer", "inputs", "number", "outputs")

    def __init__(self, ring: messages.Ring, buffer: memoryview) -> None:
        self.number = ring.ring
        self.inputs: tuple[Plane, ...] = tuple(plane for plane in ring.planes if plane.direction == "in")
        self.outputs: tuple[Plane, ...] = tuple(plane for plane in ring.planes if plane.direction == "out")
        self.buffer = buffer


class Rows:
    """Adjacent rows of every plane, at full size.

    `inputs` and `outputs` are views of shared memory, `[rows, *sample]` by name; `expected` is what the RESULT's
    descriptors are for outputs of full size.
    """

    __slots__ = ("count", "expected", "frames", "inputs", "outputs", "planes", "slot")

    def __init__(self, planes: RingPlanes, slot: int, count: int) -> None:
        self.planes = planes
        self.slot = slot
        self.count = count
        self.inputs: Arrays = self._view(planes.inputs, {})
        self.outputs: Arrays = self._view(planes.outputs, {})
        self.expected: Descriptors = descriptors_of(planes.outputs, slot, count)
        self.frames = Frames(planes.number, slot, count, self.describe({}))

    def describe(self, samples: Mapping[str, Sample]) -> Descriptors:
        """The input descriptors, with the given shapes of one row where there are any."""
        return descriptors_of(self.planes.inputs, self.slot, self.count, samples)

    def shape_inputs(self, samples: Mapping[str, Sample]) -> tuple[Arrays, Frames]:
        """Views of the inputs with other shapes of one row, which must fit, and the INFER that says so."""
        frames = Frames(self.planes.number, self.slot, self.count, self.describe(samples))
        return self._view(self.planes.inputs, samples), frames

    def view_outputs(self, outputs: Descriptors) -> Arrays | None:
        """Views of the outputs that a RESULT describes; None where it describes something that these rows are not."""
        if len(outputs) != len(self.expected):
            return None
        samples = {}
        for plane, given, full in zip(self.planes.outputs, outputs, self.expected, strict=True):
            (offset, shape, dtype), (full_offset, _, full_dtype) = given, full
            if (offset, dtype, shape[:1]) != (full_offset, full_dtype, (self.count,)) or not fits(shape[1:], plane, 0):
                return None
            samples[plane.name] = shape[1:]
        return self._view(self.planes.outputs, samples)

    def _view(self, planes: tuple[Plane, ...], samples: Mapping[str, Sample]) -> Arrays:
        views: dict[str, Array] = {
            plane.name: view_rows(plane, self.planes.buffer, self.slot, self.count, samples.get(plane.name))
            for plane in planes
        }
        return MappingProxyType(views)  # cached and shared by every lease of these rows, so nobody may change it
