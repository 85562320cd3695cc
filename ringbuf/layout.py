"""Where everything lies in a segment: from slots and samples to every offset and stride (spec section 6).

    0           header page: magic, layout version, pid of the broker
    4096        plane 0: row 0, row 1, ... row slots-1      stride = the sample's bytes, no gap
    ...         plane 1, at the next multiple of 4096

Adjacent rows of a plane are therefore one contiguous `[rows, *sample]` tensor. All arithmetic is on Python's integers
and refused past 2^53-1, so nothing wraps.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

from ringbuf.dtypes import DTYPES
from ringbuf.errors import Code, RingbrokerError

PAGE_BYTES = 4096
MAX_BYTES = 2**53 - 1

_HEADER = struct.Struct("<8sII")  # magic, layout version, pid
MAGIC = b"RINGBRKR"
LAYOUT_VERSION = 1


class PlaneGeometry(NamedTuple):
    """What decides a plane's size: its dtype, and the shape of one row with dynamic dims at their maximum."""

    dtype: str
    sample: tuple[int, ...]


class PlaneLayout(NamedTuple):
    """Where one plane lies: row 0 at `offset`, row i at `offset + i * stride`, both in bytes."""

    offset: int
    stride: int


class Layout(NamedTuple):
    """A segment's geometry: its planes in order, and its size."""

    planes: tuple[PlaneLayout, ...]
    segment_bytes: int


def tensor_bytes(dtype: str, shape: Iterable[int]) -> int:
    """Return the bytes of a C-ordered tensor; raises KeyError for an unknown dtype."""
    return DTYPES[dtype].size_bytes * prod(shape)


def page_aligned(size_bytes: int) -> int:
    """Round up to a whole number of pages."""
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES


def lay_out(slots: int, planes: Sequence[PlaneGeometry]) -> Layout:
    """Place `planes` of `slots` rows each behind the header page.

    Raises `RingbrokerError` RING_TOO_LARGE where the segment would pass 2^53-1 bytes.
    """
    placed = []
    end = PAGE_BYTES
    for plane in planes:
        stride = tensor_bytes(plane.dtype, plane.sample)
        placed.append(PlaneLayout(end, stride))
        end = page_aligned(end + slots * stride)
    if end > MAX_BYTES:
        raise RingbrokerError(Code.RING_TOO_LARGE, f"{slots} slots of these planes need {end} bytes", "slots")
    return Layout(tuple(placed), end)


def header(pid: int) -> bytes:
    """Return the header that the broker writes at the start of a segment, for people with a debugger."""
    return _HEADER.pack(MAGIC, LAYOUT_VERSION, pid)
