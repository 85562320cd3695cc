"""Planes as torch tensors: every tensor that a model sees is a view of the ring's shared memory (spec section 6).

One `torch.frombuffer` per plane when the ring opens. It is given a slice of the mapping's memoryview, and neither
`count` nor `offset`: torch does not check those, and a wrong one is a SIGSEGV. The views of single rows, which most
requests want, are made then too: slicing a tensor costs 1.9 us, looking a view up 0.03 us.

All views alias the segment, and keep it mapped for as long as they live.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from broker.engine.signature import Shape
from ringbuf.wire.messages import Plane

TORCH_DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}

_GAP = 7  # elements between rows that lie apart, in `spread`


class PlaneTensors:
    """The inputs, or the outputs, of one ring as tensors."""

    __slots__ = ("_bases", "_batch_axes", "single")

    def __init__(self, buffer: memoryview, slots: int, planes: Sequence[Plane]) -> None:
        """Wrap the planes that lie in `buffer`."""
        self._bases = tuple(
            _wrap(buffer[at.offset : at.offset + slots * at.stride], at.dtype, (slots, *at.sample)) for at in planes
        )
        self._batch_axes = tuple(plane.batch_axis for plane in planes)
        self.single: list[tuple[torch.Tensor, ...]] = [self.rows(slot, 1) for slot in range(slots)]

    def rows(self, slot: int, rows: int, samples: Sequence[Shape] | None = None) -> tuple[torch.Tensor, ...]:
        """Return rows `[slot, slot+rows)` of every plane, as the model wants them: the batch axis where the signature
        has it.

        With `samples`, each row is the tensor of that shape packed at the row's front: a view with the row's stride.
        """
        if samples is None:
            views = [base[slot : slot + rows] for base in self._bases]
        else:
            views = [pack(base[slot : slot + rows], sample) for base, sample in zip(self._bases, samples, strict=True)]
        return tuple(_with_batch_axis(view, axis) for view, axis in zip(views, self._batch_axes, strict=True))


def rows_first(tensor: torch.Tensor, batch_axis: int | None) -> torch.Tensor:
    """A view with the rows as first axis; without a batch axis, the tensor is one row."""
    return tensor.unsqueeze(0) if batch_axis is None else tensor.movedim(batch_axis, 0)


def spread(tensor: torch.Tensor, batch_axis: int | None) -> torch.Tensor:
    """A copy as a ring holds rows that are shorter than its longest: each at the front of a longer one."""
    rows = rows_first(tensor, batch_axis)
    room = torch.full((rows.shape[0], rows[0].numel() + _GAP), 77, dtype=torch.int64).to(tensor.dtype)
    packed = pack(room, tuple(rows.shape[1:]))
    packed.copy_(rows)
    return packed[0] if batch_axis is None else packed.movedim(0, batch_axis)


def are_contiguous(*sides: Sequence[torch.Tensor]) -> bool:
    """Whether every tensor lies in one piece, in the order of its elements."""
    return all(tensor.is_contiguous() for side in sides for tensor in side)


def private_tensor(value: bytes, dtype: str, shape: Shape) -> torch.Tensor:
    """A tensor of these bytes, in memory of its own."""
    return _wrap(memoryview(bytearray(value)), dtype, shape)


def _wrap(memory: memoryview, dtype: str, shape: Shape) -> torch.Tensor:
    return torch.frombuffer(memory, dtype=TORCH_DTYPES[dtype]).view(shape)


def pack(rows: torch.Tensor, sample: Shape) -> torch.Tensor:
    """The tensors of shape `sample` that are packed at the front of every row of `rows` (`[rows, *larger sample]`, the
    elements of a row adjacent): a view `[rows, *sample]` with the rows' own stride.
    """
    strides = [prod(sample[axis + 1 :]) for axis in range(len(sample))]
    return rows.as_strided((rows.shape[0], *sample), (rows.stride(0), *strides))


def _with_batch_axis(view: torch.Tensor, axis: int | None) -> torch.Tensor:
    """Move the rows from the front to the model's batch axis; without one, there is one row, and it is the tensor."""
    if axis is None:
        return view[0]
    return view if axis == 0 else view.movedim(0, axis)
