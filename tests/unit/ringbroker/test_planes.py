"""RING is believed only after it was checked; views lie where it says."""

import numpy as np
import pytest
from msgspec.structs import replace
from ringbroker.planes import find_fault, fits, is_within, view_rows

from ringbuf.wire import messages
from ringbuf.wire.messages import NOTHING, Plane, SegmentInfo, Signature, Tensor

SIGNATURE = Signature(
    (Tensor("x", "F32", ("batch", 4), 0), Tensor("state", "I8", (2, "batch", 3), 1)),
    (Tensor("x", "F64", ("batch", "n"), 0),),
    {"n": None},
)
X = Plane("x", "in", "F32", (4,), 4096, 16, 0, "cpu")
STATE = Plane("state", "in", "I8", (2, 3), 8192, 6, 1, "cpu")
OUT = Plane("x", "out", "F64", (5,), 12288, 40, 0, "cpu")
RING = messages.Ring(1, 1, SegmentInfo("path", "/dev/shm/x", 16384), 8, 8, "1", (X, STATE, OUT), NOTHING)


def with_plane(index, **changes):
    planes = list(RING.planes)
    planes[index] = planes[index]._replace(**changes)
    return replace(RING, planes=tuple(planes))


def test_a_good_ring():
    assert find_fault(RING, SIGNATURE, "path") is None


@pytest.mark.parametrize(
    ("ring", "path"),
    [
        (replace(RING, segment=SegmentInfo("fd", "x", 16384)), "segment.kind"),
        (replace(RING, segment=SegmentInfo("path", "x", 12288 + 8 * 40 - 1)), "planes[2].offset"),
        (replace(RING, max_rows=9), "max_rows"),
        (replace(RING, slots=1000), "planes[0].offset"),
        (with_plane(0, direction="both"), "planes[0].direction"),
        (with_plane(0, device="cuda"), "planes[0].device"),
        (with_plane(0, dtype="F99"), "planes[0].dtype"),
        (with_plane(0, stride=20), "planes[0].stride"),
        (with_plane(0, stride=0), "planes[0].stride"),
        (with_plane(0, sample=(4, 2**52)), "planes[0].stride"),
        (with_plane(0, offset=0), "planes[0].offset"),
        (with_plane(0, offset=4100), "planes[0].offset"),
        (with_plane(1, offset=4096), "planes[1].offset"),
        (with_plane(2, offset=16384), "planes[2].offset"),
        (with_plane(2, offset=2**53 - 4096), "planes[2].offset"),
        (with_plane(1, name="x"), "planes"),
        (with_plane(1, name="other"), "planes[1]"),
        (with_plane(1, sample=(6,)), "planes[1]"),
        (with_plane(0, dtype="I32"), "planes[0]"),
        (with_plane(0, batch_axis=1), "planes[0]"),
        (with_plane(1, batch_axis=None), "planes[1]"),
        (with_plane(0, sample=(2,), stride=8), "planes[0].sample"),
        (with_plane(1, sample=(3, 2)), "planes[1].sample"),
        (replace(RING, planes=(X, OUT, STATE)), "planes"),
        (replace(RING, planes=(X, OUT)), "planes"),
        (replace(RING, planes=(X, STATE, OUT._replace(direction="in", name="y"))), "planes"),
        (replace(RING, planes=()), "planes"),
    ],
)
def test_faults(ring, path):
    assert find_fault(ring, SIGNATURE, "path")[1] == path


def test_a_dim_has_one_size_in_all_planes():
    signature = Signature((Tensor("a", "I8", ("batch", "n"), 0),), (Tensor("y", "I8", ("batch", "n"), 0),), {"n": 9})
    for size, path in ((4, None), (3, "planes[1].sample")):
        planes = (
            Plane("a", "in", "I8", (4,), 4096, 4, 0, "cpu"),
            Plane("y", "out", "I8", (size,), 8192, size, 0, "cpu"),
        )
        fault = find_fault(replace(RING, planes=planes), signature, "path")
        assert (fault and fault[1]) == path


def test_rows_alias_the_buffer():
    buffer = memoryview(bytearray(16384))
    rows = view_rows(X, buffer, 2, 3)
    assert (rows.shape, rows.dtype, rows.flags.c_contiguous) == ((3, 4), np.float32, True)
    rows[0, 0] = 1.5
    assert np.frombuffer(buffer, np.float32, 1, 4096 + 2 * 16)[0] == 1.5


def test_short_rows_are_packed_at_the_front_of_each_row():
    buffer = memoryview(bytearray(16384))
    plane = Plane("t", "in", "I64", (4, 6), 4096, 192, 0, "cpu")
    rows = view_rows(plane, buffer, 1, 2, (2, 3))
    assert (rows.shape, rows.strides, rows[1].flags.c_contiguous) == ((2, 2, 3), (192, 24, 8), True)
    rows[:] = np.arange(12).reshape(2, 2, 3)
    whole = np.frombuffer(buffer, np.int64, offset=4096).reshape(-1, 24)
    assert whole[1, :7].tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert whole[2, :7].tolist() == [6, 7, 8, 9, 10, 11, 0]


def test_bf16_is_seen_as_bits():
    plane = Plane("t", "in", "BF16", (4,), 4096, 8, 0, "cpu")
    assert view_rows(plane, memoryview(bytearray(8192)), 0, 1).dtype == np.uint16


def test_scalar_rows():
    plane = Plane("t", "out", "F32", (), 4096, 4, 0, "cpu")
    assert view_rows(plane, memoryview(bytearray(8192)), 0, 5).shape == (5,)


@pytest.mark.parametrize(
    ("sample", "fit"),
    [((2, 3), True), ((1, 1), True), ((0, 3), False), ((3, 3), False), ((2,), False), ((2, 3, 1), False)],
)
def test_fits(sample, fit):
    assert fits(sample, STATE) is fit


@pytest.mark.parametrize(
    ("sample", "is_so"),
    [
        ((5, 4), True),
        ((3, 4), True),
        ((0, 4), True),
        ((6, 4), False),
        ((5, 3), False),
        ((5, 5), False),
        ((5, 0), False),
        ((5,), False),
        ((), False),
    ],
)
def test_is_within(sample, is_so):
    assert is_within(sample, (5, 4), {0}) is is_so
