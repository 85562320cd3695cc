"""Planes as tensors: views of the shared memory, both ways, and of nothing else."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch

from broker.engine.tensors import DTYPE_NAMES, TORCH_DTYPES, PlaneTensors
from ringbuf import segment
from ringbuf.dtypes import DTYPES
from ringbuf.layout import PlaneGeometry, lay_out
from ringbuf.segment import Segment, SegmentStore
from ringbuf.wire import messages

SLOTS = 4


class Plane:
    """One plane of a new segment: as torch tensors, and as the client that attached to it sees it."""

    def __init__(self, store, dtype, sample, batch_axis=0):
        layout = lay_out(SLOTS, [PlaneGeometry(dtype, (3,)), PlaneGeometry(dtype, sample)])
        at = layout.planes[1]
        made = store.create(layout.segment_bytes)
        ours, attached = Segment(made.fd, made.size_bytes), segment.attach(made.path, made.size_bytes)
        made.free()
        self.path = made.path
        plane = messages.Plane("x", "in", dtype, sample, at.offset, at.stride, batch_axis, "cpu")
        self.tensors = PlaneTensors(ours.buffer, SLOTS, [plane])
        memory = attached.buffer[at.offset : at.offset + SLOTS * at.stride]
        self.client = np.frombuffer(memory, DTYPES[dtype].numpy).reshape(SLOTS, *sample)

    def rows(self, *arguments):
        (view,) = self.tensors.rows(*arguments)
        return view


def as_numpy(tensor):
    """Also for BF16, which numpy sees as its bits."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def test_every_dtype_of_the_wire_has_its_torch_dtype():
    assert set(TORCH_DTYPES) == set(DTYPES)
    assert all(dtype.itemsize == DTYPES[name].size_bytes for name, dtype in TORCH_DTYPES.items())
    assert {DTYPE_NAMES[dtype]: dtype for dtype in TORCH_DTYPES.values()} == TORCH_DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_the_client_writes_the_model_reads_and_back(store, dtype):
    plane = Plane(store, dtype, (2, 3))
    values = np.arange(SLOTS * 6).reshape(SLOTS, 2, 3) % 2
    plane.client[:] = values.astype(plane.client.dtype)
    for slot, rows in [(0, 1), (1, 3), (0, SLOTS)]:
        view = plane.rows(slot, rows)
        assert (view.dtype, tuple(view.shape)) == (TORCH_DTYPES[dtype], (rows, 2, 3))
        assert view.is_contiguous()
        assert (as_numpy(view) == plane.client[slot : slot + rows]).all()
    plane.rows(2, 1).copy_(torch.ones(1, 2, 3, dtype=TORCH_DTYPES[dtype]))
    one = as_numpy(torch.ones((), dtype=TORCH_DTYPES[dtype]))
    assert (plane.client[2] == one).all()
    assert (plane.client[[0, 1, 3]] == values[[0, 1, 3]].astype(plane.client.dtype)).all()


def test_the_views_of_single_rows(store):
    plane = Plane(store, "I32", (5,))
    plane.client[:] = np.arange(20).reshape(4, 5)
    assert [view.tolist() for (view,) in plane.tensors.single] == [[row] for row in plane.client.tolist()]
    plane.client[3] = 7
    assert plane.tensors.single[3][0].tolist() == [[7] * 5]


def test_a_short_sample_is_packed_at_its_rows_front(store):
    plane = Plane(store, "I32", (2, 3))
    plane.client[:] = np.arange(24).reshape(4, 2, 3)
    view = plane.rows(1, 2, [(2, 2)])
    assert view.tolist() == [[[6, 7], [8, 9]], [[12, 13], [14, 15]]]
    view.fill_(-1)
    assert plane.client.reshape(4, 6)[1:3].tolist() == [[-1, -1, -1, -1, 10, 11], [-1, -1, -1, -1, 16, 17]]
    assert plane.rows(3, 1, [(1, 1)]).tolist() == [[[18]]]
    assert plane.rows(0, 4, [(2, 3)]).tolist() == plane.client.tolist()


@pytest.mark.parametrize("samples", [None, [(2, 3)], [(1, 2)]])
def test_a_batch_axis_that_is_not_the_first(store, samples):
    plane = Plane(store, "I32", (2, 3), batch_axis=2)
    plane.client[:] = np.arange(24).reshape(4, 2, 3)
    view = plane.rows(1, 3, samples)
    high, wide = samples[0] if samples else (2, 3)
    assert tuple(view.shape) == (high, wide, 3)
    packed = plane.client.reshape(4, 6)[1:4, : high * wide].reshape(3, high, wide)
    assert (view.numpy() == np.moveaxis(packed, 0, 2)).all()
    view.fill_(9)
    assert (plane.client.reshape(4, 6)[1:4, : high * wide] == 9).all()
    assert (plane.client[0] == np.arange(6).reshape(2, 3)).all()


def test_no_batch_axis(store):
    plane = Plane(store, "F64", (2, 3), batch_axis=None)
    plane.client[2] = 5
    assert tuple(plane.rows(2, 1).shape) == (2, 3)
    assert plane.rows(2, 1).tolist() == [[5.0] * 3] * 2
    assert tuple(plane.rows(2, 1, [(1, 2)]).shape) == (1, 2)


@pytest.mark.parametrize("batch_axis", [None, 0])
def test_scalar_rows(store, batch_axis):
    plane = Plane(store, "F32", (), batch_axis)
    plane.client[:] = [1, 2, 3, 4]
    assert plane.rows(2, 1).tolist() == (3.0 if batch_axis is None else [3.0])
    plane.rows(1, 1).fill_(8)
    assert plane.client.tolist() == [1, 8, 3, 4]
    if batch_axis == 0:
        assert plane.rows(1, 2).tolist() == [8, 3]


def test_the_mapping_goes_with_the_last_tensor(tmp_path):
    store = SegmentStore(str(tmp_path / "sock"))
    is_mapped = lambda: store.prefix in Path("/proc/self/maps").read_text()  # noqa: E731
    gc.disable()
    try:
        plane = Plane(store, "F32", (3,))
        plane.client = None
        view = plane.rows(0, 2)
        assert is_mapped()
        plane = None
        assert is_mapped()
        assert view.tolist() == [[0.0] * 3] * 2
        view = None
        assert not is_mapped()
    finally:
        gc.enable()
