"""A client's side of a conversation with a session: what it sent, what it is owed, and whether what came is right."""

import mmap
import os
from collections import deque
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from tests.fuzz import oracle

FUNCTIONS = {"twice": lambda x: 2 * x, "sum": lambda a, b: a + b, "open": lambda a: a}
NUMPY = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
LAST_RUN_CODES = {4001, 4002, 5001, 5002}


class Plane(NamedTuple):
    name: str
    direction: str
    dtype: str
    sample: list
    offset: int
    stride: int
    batch_axis: int | None
    device: str


class Ring:
    """An open ring, mapped by its path as the specification says."""

    def __init__(self, model, signature, fields, maxima):
        _, _, self.number, segment, self.slots, self.max_rows, self.version, planes, _ = fields
        assert segment["kind"] == "path"
        self.model = model
        self.path = segment["path"]
        self.attached = False
        self.sizes = {dim: maxima.get(dim, most) for dim, most in signature["dims"].items()}
        planes = [Plane(*plane) for plane in planes]
        self.inputs = [plane for plane in planes if plane.direction == "in"]
        self.outputs = [plane for plane in planes if plane.direction == "out"]
        self.input_rows = [oracle.row_of(shape, axis, {}) for _, _, shape, axis in signature["inputs"]]
        self.output_rows = [oracle.row_of(shape, axis, {}) for _, _, shape, axis in signature["outputs"]]
        self._check_geometry(planes, signature, segment["bytes"])
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.memory = np.frombuffer(mmap.mmap(descriptor, segment["bytes"], mmap.MAP_SHARED), np.uint8)
        finally:
            os.close(descriptor)

    def _check_geometry(self, planes, signature, segment_bytes):
        end = 4096
        tensors = [*signature["inputs"], *signature["outputs"]]
        for plane, (name, dtype, shape, axis) in zip(planes, tensors, strict=True):
            sample = oracle.row_of(shape, axis, self.sizes)
            stride = oracle.SIZES[dtype] * prod(sample)
            assert (plane.name, plane.dtype, plane.sample, plane.batch_axis) == (name, dtype, sample, axis)
            assert plane.stride == stride
            assert plane.offset % 4096 == 0
            assert plane.offset >= end
            end = plane.offset + self.slots * stride
        assert end <= segment_bytes
        assert 1 <= self.max_rows <= self.slots

    def descriptors(self, planes, row_shapes, slot, rows, sizes):
        """A descriptor for each plane, dims named in `sizes` of that size, the others at the ring's maximum."""
        known = self.sizes | sizes
        return [
            [plane.offset + slot * plane.stride, [rows, *(known.get(dim, dim) for dim in shape)], plane.dtype]
            for plane, shape in zip(planes, row_shapes, strict=True)
        ]

    def view(self, plane, slot, row, shape):
        """One tensor: packed at the front of its row."""
        start = plane.offset + (slot + row) * plane.stride
        size = oracle.SIZES[plane.dtype] * prod(shape)
        return self.memory[start : start + size].view(NUMPY[plane.dtype]).reshape(shape)

    def fill(self, slot, rows, random):
        """Write new inputs, and take the last outputs away."""
        for plane in self.inputs:
            start = plane.offset + slot * plane.stride
            count = rows * plane.stride // oracle.SIZES[plane.dtype]
            first = random.randrange(1, 10**6)
            area = self.memory[start : start + rows * plane.stride].view(NUMPY[plane.dtype])
            area[:] = np.arange(first, first + count)
        for plane in self.outputs:
            start = plane.offset + slot * plane.stride
            self.memory[start : start + rows * plane.stride] = 0xA5


@dataclass
class Pending:
    """A request that was accepted and has no final answer yet."""

    ring: Ring
    slot: int
    rows: int
    shapes: list


class Client:
    """The state of one session, and the judge of what the broker says in it.

    `sent(message)` says what a message that passed the table of fields must be answered with; `heard(message)` checks
    an answer. What is owed at once is in `due`, in order; a RESULT, or the ERROR of a run, comes when it comes.
    """

    def __init__(self, models, limits):
        self.models = models
        self.limits = limits
        self.rings = {}
        self.pending = {}
        self.due = deque()
        self.ended = False
        self.results = 0

    def is_free(self, ring, slot, rows):
        return not any(
            other.ring is ring and other.slot < slot + rows and slot < other.slot + other.rows
            for other in self.pending.values()
        )

    def sent(self, message):
        """Take note of what must be answered at once."""
        getattr(self, "_sent_" + oracle.BY_NUMBER[message[0]]["name"].lower())(message)

    def fails(self, codes):
        """The session must end with an ERROR of one of `codes`."""
        self.due.append(lambda answer: self._check_end(answer, codes))
        self.ended = True

    def heard(self, answer):
        """Check one answer."""
        if self.due and not self._is_of_a_run(answer):
            self.due.popleft()(answer)
        else:
            self._finish(answer)

    def _is_of_a_run(self, answer):
        return answer[0] == 69 or (answer[0] == 64 and answer[1] in self.pending and answer[2] == 4001)

    def _check_end(self, answer, codes):
        assert answer[0] == 64, answer
        assert answer[1] is None, answer
        assert answer[2] in codes, f"{answer} where one of {codes} is due"

    def _error(self, request_id, codes):
        def check(answer):
            assert answer[0] == 64, answer
            assert answer[1] == request_id, answer
            assert answer[2] in codes, f"{answer} where one of {codes} is due"

        self.due.append(check)

    def _answer(self, *expected):
        def check(answer):
            assert tuple(answer[: len(expected)]) == expected, f"{answer} where {expected} is due"

        self.due.append(check)

    def _sent_hello(self, _message):
        self.fails({1006})

    def _sent_list(self, message):
        _, request_id, page = message
        if request_id in self.pending:
            self.fails({1007})
            return
        models = [[name, versions, "default", signature] for name, (versions, signature) in self.models.items()]
        self._answer(66, request_id, models if page == 0 else [], None)

    def _sent_open(self, message):
        request_id, model, maxima = message[1], message[2], message[5]
        if request_id in self.pending:
            self.fails({1007})
            return
        codes, must = oracle.judge_open(message, self.models, self.limits, len(self.rings))

        def check(answer):
            if answer[0] == 64:
                assert answer[1] == request_id
                assert answer[2] in codes, f"{answer} where {codes or 'RING'} is due"
                return
            assert not must, f"{answer} where one of {codes} is due"
            assert answer[:2] == [67, request_id]
            ring = Ring(model, self.models[model][1], answer, maxima)
            assert ring.number not in self.rings
            self.rings[ring.number] = ring

        self.due.append(check)

    def _sent_attached(self, message):
        _, number, code = message
        ring = self.rings.get(number)
        if ring is None or ring.attached:
            self.fails({1006})
            return
        ring.attached = True
        if code != 0:
            del self.rings[number]

    def _sent_infer(self, message):
        _, request_id, number, slot, rows, inputs, *_ = message
        code = oracle.judge_infer(message, self.rings, self.pending)
        if code == 1007:
            self.fails({1007})
        elif code is not None:
            self._error(request_id, {code})
        else:
            shapes = [shape[1:] for _, shape, _ in inputs]
            self.pending[request_id] = Pending(self.rings[number], slot, rows, shapes)

    def _sent_cancel(self, message):
        if message[1] in self.pending:
            self._error(message[1], {4002})
            del self.pending[message[1]]

    def _sent_close(self, message):
        _, request_id, number = message
        if request_id in self.pending:
            self.fails({1007})
        elif number not in self.rings:
            self._error(request_id, {2001})
        else:
            ring = self.rings.pop(number)
            for waiting in [other for other, pending in self.pending.items() if pending.ring is ring]:
                self._error(waiting, {4002})
                del self.pending[waiting]
            self._answer(71, request_id, number)

    def _sent_ping(self, message):
        self._answer(72, message[1])

    def _finish(self, answer):
        """Check the one final answer of a request, and its outputs' bytes."""
        request_id = answer[1]
        assert request_id in self.pending, f"{answer} answers nothing"
        asked = self.pending.pop(request_id)
        if answer[0] == 64:
            assert answer[2] in LAST_RUN_CODES, answer
            return
        _, _, last, outputs, version, timings, batch_rows, extra = answer
        ring = asked.ring
        sizes = {}
        for shape, given in zip(ring.input_rows, asked.shapes, strict=True):
            sizes |= {dim: size for dim, size in zip(shape, given, strict=True) if isinstance(dim, str)}
        assert (last, version, extra) == (True, ring.version, {})
        assert outputs == ring.descriptors(ring.outputs, ring.output_rows, asked.slot, asked.rows, sizes)
        assert len(timings) == 2
        assert asked.rows <= batch_rows <= 8
        function = FUNCTIONS[ring.model]
        for row in range(asked.rows):
            given = [ring.view(p, asked.slot, row, s) for p, s in zip(ring.inputs, asked.shapes, strict=True)]
            (output,) = ring.outputs
            result = ring.view(output, asked.slot, row, outputs[0][1][1:])
            assert np.array_equal(result, function(*given)), f"wrong bytes for request {request_id}, row {row}"
        self.results += 1
