"""A ring as the broker sees it: its segment, its planes as tensors, and which rows are in flight (spec section 6).

What a client can write is never asked: which rows are whose is kept here, in private memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
import numpy as np

from broker.batcher import Form, RingQueue
from broker.catalog import Family
from broker.control import RingRecord
from broker.engine.models import Model
from broker.engine.signature import Sample, Shape, sample_of
from broker.engine.tensors import PlaneTensors
from ringbuf.errors import Code, RingbrokerError
from ringbuf.layout import PAGE_BYTES, PlaneGeometry, lay_out, tensor_bytes
from ringbuf.segment import Segment
from ringbuf.wire import messages
from ringbuf.wire.messages import NO_RING_OPTIONS, Descriptor, Plane

STATEFUL = messages.RingOptions(stateful=True)
DEFAULT_RING_BYTES = 8 * 2**20  # the default ring of any model fits several times into a container's 64 MB /dev/shm


class Ring:
    """One ring: all is known of it when it is made, and it is usable when `map` has given it its memory.

    Its tensors alias the segment, which is unmapped when the last of them is gone.
    """

    def __init__(self, number: int, family: Family, version: str | None, slots: int, maxima: Mapping[str, int]) -> None:
        """A ring for `version`, or for whichever the family chooses; `maxima` has every dynamic dim.

        Raises `RingbrokerError` UNKNOWN_VERSION, or RING_TOO_LARGE.
        """
        model = family.usual if version is None else family.find(version)
        self.number = number
        self.model = model
        """What answers a request, unless the family chooses."""
        self.family = family if version is None and len(family.versions) > 1 else None
        """Set where requests are shared between versions, and may name one."""
        self.slots = slots
        self.max_batch = family.max_batch if self.family else model.max_batch
        self.max_rows = min(slots, self.max_batch)
        may_answer = self.family.versions.values() if self.family else (model,)
        self.options = NO_RING_OPTIONS if all(each.proof.is_repeatable for each in may_answer) else STATEFUL
        self.attached = False
        self.queue = RingQueue()
        self._version = version
        self._maxima = dict(maxima)
        self._in_flight = bytearray(slots)

        tensors = (*model.signature.inputs, *model.signature.outputs)
        samples = [_at_maximum(sample_of(tensor), maxima) for tensor in tensors]
        geometry = [PlaneGeometry(tensor.dtype, sample) for tensor, sample in zip(tensors, samples, strict=True)]
        layout = lay_out(slots, geometry)
        self.size_bytes = layout.segment_bytes
        split = len(model.signature.inputs)
        directions = ["in"] * split + ["out"] * (len(tensors) - split)
        self.planes = tuple(
            Plane(tensor.name, direction, tensor.dtype, sample, at.offset, at.stride, tensor.batch_axis, "cpu")
            for tensor, direction, sample, at in zip(tensors, directions, samples, layout.planes, strict=True)
        )
        self.in_planes, self.out_planes = self.planes[:split], self.planes[split:]
        self.full_form = Form(tuple(samples[:split]), tuple(samples[split:]))
        """What `None` stands for as the form of this ring's requests."""
        looked_at = [p for i, p in enumerate(self.in_planes) if p.dtype == "BOOL" or i in model.uniform]
        self.looked_at_bytes = sum(plane.stride for plane in looked_at)
        """How many bytes of a row's inputs are looked at before a request is taken (`validation.look`)."""

    def map(self, fd: int) -> None:
        """Map its memory, which `fd` holds; raises `RingbrokerError` SHM_FULL where that cannot be done."""
        try:
            self.segment = Segment(fd, self.size_bytes)
        except (OSError, ValueError) as error:  # ValueError: a client has cut it short
            raise RingbrokerError(Code.SHM_FULL, f"cannot map the ring: {error}") from error
        self.inputs = PlaneTensors(self.segment.buffer, self.slots, self.in_planes)
        self.outputs = PlaneTensors(self.segment.buffer, self.slots, self.out_planes)
        # What a request for one full row says, and what its answer does: compared and sent as they are.
        self.single_inputs = [descriptors(self.in_planes, slot, 1) for slot in range(self.slots)]
        self.single_outputs = [descriptors(self.out_planes, slot, 1) for slot in range(self.slots)]

    def record(self) -> RingRecord:
        """What it takes to make it again around the same memory."""
        told = msgspec.msgpack.encode((self.max_rows, self.planes, self.options))
        fingerprint = hashlib.blake2b(told, digest_size=16).digest()
        return RingRecord(
            self.number, self.model.name, self._version, self.slots, self._maxima, self.size_bytes, fingerprint
        )

    def answering(self, version: str | None) -> Model:
        """The version for a request that names `version`, or none; raises `RingbrokerError` UNKNOWN_VERSION."""
        if self.family is not None:
            return self.family.choose() if version is None else self.family.find(version)
        if version is not None and version != self.model.version:
            text = f"the ring is answered by version {self.model.version}"
            raise RingbrokerError(Code.UNKNOWN_VERSION, text, "version")
        return self.model

    def is_in_flight(self, slot: int, rows: int) -> bool:
        """Whether any of the rows belongs to a request that has no answer yet."""
        if rows == 1:
            return self._in_flight[slot] == 1
        return self._in_flight.find(1, slot, slot + rows) >= 0

    def claim(self, slot: int, rows: int) -> None:
        """Mark the rows as the broker's."""
        if rows == 1:
            self._in_flight[slot] = 1
        else:
            self._in_flight[slot : slot + rows] = b"\x01" * rows

    def release(self, slot: int, rows: int) -> None:
        """Mark the rows as the client's."""
        if rows == 1:
            self._in_flight[slot] = 0
        else:
            self._in_flight[slot : slot + rows] = bytes(rows)

    def greatest_byte(self, index: int, slot: int, rows: int, sample: Shape) -> int:
        """The greatest byte of these rows of an input, of shape `sample`; 1 us per 1.4 KB."""
        plane = self.in_planes[index]
        start = plane.offset + slot * plane.stride
        memory = np.frombuffer(self.segment.buffer[start : start + rows * plane.stride], np.uint8)
        return int(memory.reshape(rows, plane.stride)[:, : tensor_bytes(plane.dtype, sample)].max())

    def row_bytes(self, index: int, slot: int, rows: int, sample: Shape) -> list[bytes]:
        """Copy each row of an input, of shape `sample`, to private memory."""
        plane = self.in_planes[index]
        length = tensor_bytes(plane.dtype, sample)
        starts = (plane.offset + row * plane.stride for row in range(slot, slot + rows))
        return [bytes(self.segment.buffer[start : start + length]) for start in starts]

    def message(self, request_id: int, kind: str, path: str | None) -> messages.Ring:
        """The RING that tells the client all about it."""
        return messages.Ring(
            request_id,
            self.number,
            messages.SegmentInfo(kind, path, self.size_bytes),
            self.slots,
            self.max_rows,
            self.model.version,
            self.planes,
            self.options,
        )


def descriptors(
    planes: tuple[Plane, ...], slot: int, rows: int, samples: tuple[Shape, ...] | None = None
) -> tuple[Descriptor, ...]:
    """The descriptors of rows `[slot, slot+rows)`, at full size or of the given sample shapes."""
    shapes = samples or tuple(plane.sample for plane in planes)
    return tuple(
        (plane.offset + slot * plane.stride, (rows, *shape), plane.dtype)
        for plane, shape in zip(planes, shapes, strict=True)
    )


def slots_for(slot_bytes: int, default_slots: int) -> int:
    """The slots of a ring whose client leaves it to the broker."""
    return max(1, min(default_slots, DEFAULT_RING_BYTES // slot_bytes))


def design_ring(number: int, family: Family, ask: messages.Open, limits: messages.Limits, default_slots: int) -> Ring:
    """Make the ring that an OPEN asks for, without its memory.

    Raises `RingbrokerError`: UNKNOWN_VERSION, UNKNOWN_DIM, MAXIMUM_MISSING, MAXIMUM_TOO_LARGE, TOO_MANY_SLOTS or
    RING_TOO_LARGE.
    """
    maxima = _maxima(family.usual, ask)
    tensors = (*family.usual.signature.inputs, *family.usual.signature.outputs)
    samples = [_at_maximum(sample_of(tensor), maxima) for tensor in tensors]
    slot_bytes = sum(tensor_bytes(tensor.dtype, sample) for tensor, sample in zip(tensors, samples, strict=True))
    slots = ask.slots or slots_for(slot_bytes, default_slots)
    if slots > limits.slots:
        raise RingbrokerError(Code.TOO_MANY_SLOTS, f"{limits.slots} slots are the most", "slots")
    if slots * slot_bytes + (len(tensors) + 1) * PAGE_BYTES > limits.segment_bytes:
        raise RingbrokerError(
            Code.RING_TOO_LARGE,
            f"{slots} slots of {slot_bytes} bytes are over the {limits.segment_bytes} allowed",
            "slots",
        )
    return Ring(number, family, ask.version, slots, maxima)


def remake_ring(record: RingRecord, family: Family) -> Ring:
    """Make a ring again that another worker had; raises `RingbrokerError` SIGNATURE_CHANGED."""
    try:
        ring = Ring(record.number, family, record.version, record.slots, record.maxima)
    except (RingbrokerError, KeyError) as error:  # a version, or a dim, that is no more
        raise _changed() from error
    if ring.record() != record:
        raise _changed()
    ring.attached = True
    return ring


def _changed() -> RingbrokerError:
    return RingbrokerError(Code.SIGNATURE_CHANGED, "the model has another signature now")


def _maxima(model: Model, ask: messages.Open) -> dict[str, int]:
    """The largest size of every dynamic dim in this ring."""
    dims = model.signature.dims
    for dim, asked in ask.maxima.items():
        if dim not in dims:
            raise RingbrokerError(Code.UNKNOWN_DIM, f"the model has the dims {sorted(dims)}", f"maxima.{dim}")
        most = dims[dim]
        if asked < 1 or (most is not None and asked > most):
            raise RingbrokerError(Code.MAXIMUM_TOO_LARGE, f"1 to {most or 'any size'} is allowed", f"maxima.{dim}")
    maxima = {}
    for dim, most in dims.items():
        size = ask.maxima.get(dim, most)
        if size is None:
            raise RingbrokerError(Code.MAXIMUM_MISSING, f"the model leaves {dim!r} open", f"maxima.{dim}")
        maxima[dim] = size
    return maxima


def _at_maximum(sample: Sample, maxima: Mapping[str, int]) -> Shape:
    return tuple(maxima[dim] if isinstance(dim, str) else dim for dim in sample)
