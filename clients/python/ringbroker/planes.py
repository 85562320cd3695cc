"""The planes of a ring as numpy arrays over the segment, once RING has been checked (spec section 6)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ringbuf.dtypes import DTYPES
from ringbuf.layout import PAGE_BYTES, tensor_bytes
from ringbuf.wire import messages

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]
Sample: TypeAlias = tuple[int, ...]


def sample_of(tensor: messages.Tensor) -> tuple[int | str, ...]:
    """A tensor's shape without its batch axis: what one row of its plane holds, dynamic dims by name."""
    return tuple(dim for axis, dim in enumerate(tensor.shape) if axis != tensor.batch_axis)


def find_fault(ring: messages.Ring, signature: messages.Signature, kind: str) -> tuple[str, str] | None:
    """Look for what the protocol does not allow in a RING whose segment shall be of that kind; returns what it is and
    its path, None where all is well.

    After this no row of any plane can reach outside the segment or into another plane.
    """
    if ring.segment.kind != kind or (ring.segment.path is None) == (kind == "path"):
        return "a kind of segment that this client did not offer", "segment.kind"
    if ring.max_rows > ring.slots:
        return "more rows than slots", "max_rows"
    return _find_misplaced(ring) or _find_stranger(ring.planes, signature)


def _find_misplaced(ring: messages.Ring) -> tuple[str, str] | None:
    """Look for a plane that is no memory of its own."""
    end = PAGE_BYTES
    for index, plane in sorted(enumerate(ring.planes), key=lambda item: item[1].offset):
        path = f"planes[{index}]"
        if plane.direction not in ("in", "out"):
            return "neither in nor out", f"{path}.direction"
        if plane.device != "cpu":
            return "a device that this client cannot see", f"{path}.device"
        if plane.dtype not in DTYPES:
            return "an unknown dtype", f"{path}.dtype"
        if plane.stride != tensor_bytes(plane.dtype, plane.sample):
            return "a stride that is not the sample's bytes", f"{path}.stride"
        if plane.offset % PAGE_BYTES or plane.offset < end:
            return "not at a page of its own", f"{path}.offset"
        end = plane.offset + ring.slots * plane.stride
        if end > ring.segment.bytes:
            return "past the segment's end", f"{path}.offset"
    return None


def _find_stranger(planes: tuple[messages.Plane, ...], signature: messages.Signature) -> tuple[str, str] | None:
    """Look for a plane that is not its tensor's in the signature."""
    tensors = (*signature.inputs, *signature.outputs)
    directions = ["in"] * len(signature.inputs) + ["out"] * len(signature.outputs)
    if [plane.direction for plane in planes] != directions:
        return "not one plane for each of the model's inputs, and then for each output", "planes"
    if len({(plane.name, plane.direction) for plane in planes}) < len(planes):
        return "two planes of one name", "planes"
    sizes: dict[str, int] = {}
    for index, (plane, tensor) in enumerate(zip(planes, tensors, strict=True)):
        dims = sample_of(tensor)
        told = (plane.name, plane.dtype, plane.batch_axis, len(plane.sample))
        if told != (tensor.name, tensor.dtype, tensor.batch_axis, len(dims)):
            return "a plane of another tensor than the model's", f"planes[{index}]"
        for dim, size in zip(dims, plane.sample, strict=True):
            if size != (sizes.setdefault(dim, size) if isinstance(dim, str) else dim):
                return "not the dim's size, or not what it is in another plane", f"planes[{index}].sample"
    return None


def view_rows(plane: messages.Plane, buffer: memoryview, slot: int, rows: int, sample: Sample | None = None) -> Array:
    """View rows `[slot, slot+rows)` of a checked plane: `[rows, *sample]` of the plane's dtype, without a copy.

    A `sample` that is smaller than the plane's is packed at the front of each row, so an array of several such rows is
    strided. The view aliases the segment and keeps it mapped; BF16, which numpy has not, is seen as its bits, uint16.
    """
    dtype = DTYPES[plane.dtype].numpy
    shape = plane.sample if sample is None else sample
    strides = [plane.stride, *(dtype.itemsize * prod(shape[axis + 1 :]) for axis in range(len(shape)))]
    return np.ndarray((rows, *shape), dtype, buffer, plane.offset + slot * plane.stride, strides)


def descriptors_of(
    planes: tuple[messages.Plane, ...], slot: int, rows: int, samples: Mapping[str, Sample] | None = None
) -> tuple[messages.Descriptor, ...]:
    """The descriptors of rows `[slot, slot+rows)`, at full size or with the given shapes of one row."""
    samples = samples or {}
    return tuple(
        (plane.offset + slot * plane.stride, (rows, *samples.get(plane.name, plane.sample)), plane.dtype)
        for plane in planes
    )


def fits(sample: Sample, plane: messages.Plane) -> bool:
    """Whether rows of a request may have this shape: the plane's rank, and every size from 1 to the plane's."""
    return len(sample) == len(plane.sample) and all(
        1 <= size <= most for size, most in zip(sample, plane.sample, strict=True)
    )


def is_within(sample: Sample, expected: Sample, open_axes: Collection[int]) -> bool:
    """Whether rows of a result may have this shape: the expected one, or smaller, down to 0, on open axes."""
    return len(sample) == len(expected) and all(
        size == most or (axis in open_axes and size < most)
        for axis, (size, most) in enumerate(zip(sample, expected, strict=True))
    )
