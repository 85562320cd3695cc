"""What is prepared for a request is exactly what the codec would have made."""

import numpy as np
import pytest
from msgspec.structs import replace
from ringbroker.protocol import FIRST_ID
from ringbroker.rows import ID_AT, Frames, RingPlanes, Rows, pack_u64_into

from ringbuf.wire.framing import LENGTH_BYTES
from ringbuf.wire.messages import (
    NO_INFER_EXTRA,
    Infer,
    Plane,
    Signature,
    Tensor,
    decode_client,
    encode_frame,
)
from tests.unit.ringbroker.test_planes import RING, SIGNATURE


@pytest.mark.parametrize("rows", [1, 7, 200, 70000])
@pytest.mark.parametrize("number", [FIRST_ID, FIRST_ID + 12345, 2**53 - 1])
def test_frames_are_the_codecs(rows, number):
    inputs = ((4096, (rows, 4), "F32"), (8192, (rows, 2, 3), "I8"))
    frames = Frames(300, 70000, rows, inputs)
    pack_u64_into(frames.plain, ID_AT, number)
    assert frames.plain == encode_frame(Infer(number, 300, 70000, rows, inputs, None, None, None, NO_INFER_EXTRA))
    for deadline_ns in (2**32, 123456789012345, 2**53 - 1):
        pack_u64_into(frames.timed, ID_AT, number)
        pack_u64_into(frames.timed, frames.deadline_at, deadline_ns)
        infer = Infer(number, 300, 70000, rows, inputs, None, deadline_ns, None, NO_INFER_EXTRA)
        assert frames.timed == encode_frame(infer)


@pytest.fixture
def rows():
    return Rows(RingPlanes(RING, SIGNATURE), memoryview(bytearray(16384)), 2, 3)


def test_views_and_descriptors(rows):
    full = rows.full
    assert {name: view.shape for name, view in full.inputs.items()} == {"x": (3, 4), "state": (3, 2, 3)}
    assert full.outputs["x"].shape == (3, 5)
    assert full.expected == ((12288 + 2 * 40, (3, 5), "F64"),)
    assert decode(full).inputs == ((4096 + 2 * 16, (3, 4), "F32"), (8192 + 2 * 6, (3, 2, 3), "I8"))
    assert decode(rows.shape({"state": (1, 3)})).inputs[1] == (8192 + 2 * 6, (3, 1, 3), "I8")


def decode(form):
    return decode_client(bytes(form.frames.plain[LENGTH_BYTES:]))


def test_views_cannot_be_exchanged(rows):
    with pytest.raises(TypeError):
        rows.full.inputs["x"] = None


@pytest.mark.parametrize("size", range(6))
def test_outputs_with_an_open_dim(rows, size):
    """`n` is no input's: every size to the plane's is one that a result may have."""
    offset = rows.full.expected[0][0]
    view = rows.view_outputs(((offset, (3, size), "F64"),), rows.full)["x"]
    assert view.shape == (3, size)
    whole = rows.full.outputs["x"]
    whole[:] = np.arange(15).reshape(3, 5)
    assert view.tolist() == whole[:, :size].tolist()  # packed at the front of each row


def test_open_dims_before_others_are_packed():
    """Two rows of `[n, 2]` in planes of `[3, 2]`: elements 2n and on of a row are nobody's."""
    signature = Signature(
        (Tensor("a", "I8", ("batch",), 0),), (Tensor("boxes", "I64", ("batch", "n", 2), 0),), {"n": 3}
    )
    planes = (
        Plane("a", "in", "I8", (), 4096, 1, 0, "cpu"),
        Plane("boxes", "out", "I64", (3, 2), 8192, 48, 0, "cpu"),
    )
    buffer = memoryview(bytearray(16384))
    rows = Rows(RingPlanes(replace(RING, planes=planes), signature), buffer, 1, 2)
    np.frombuffer(buffer, np.int64, offset=8192 + 48)[:12] = np.arange(12)
    offset = 8192 + 48
    for n, expected in ((0, [[], []]), (1, [[[0, 1]], [[6, 7]]]), (2, [[[0, 1], [2, 3]], [[6, 7], [8, 9]]])):
        view = rows.view_outputs(((offset, (2, n, 2), "I64"),), rows.full)["boxes"]
        assert view.tolist() == expected
        assert view[1].flags.c_contiguous


@pytest.mark.parametrize(
    "wrong",
    [
        lambda offset, shape, dtype: (offset, (3, 6), dtype),
        lambda offset, shape, dtype: (offset, (2, 5), dtype),
        lambda offset, shape, dtype: (offset, (3,), dtype),
        lambda offset, shape, dtype: (offset, (), dtype),
        lambda offset, shape, dtype: (offset, (3, 5, 1), dtype),
        lambda offset, shape, dtype: (offset + 8, (3, 4), dtype),
        lambda offset, shape, dtype: (offset, (3, 4), "I64"),
    ],
)
def test_outputs_that_these_rows_cannot_have(rows, wrong):
    (expected,) = rows.full.expected
    assert rows.view_outputs((wrong(*expected),), rows.full) is None
    assert rows.view_outputs((), rows.full) is None
    assert rows.view_outputs((expected, expected), rows.full) is None


def test_an_output_has_the_size_of_its_inputs_dim():
    """`n` is an input's: a result is as long as its request, and neither shorter nor at the ring's maximum."""
    signature = Signature(
        (Tensor("a", "I8", ("batch", "n"), 0),), (Tensor("y", "I8", ("batch", 2, "n"), 0),), {"n": None}
    )
    planes = (Plane("a", "in", "I8", (6,), 4096, 6, 0, "cpu"), Plane("y", "out", "I8", (2, 6), 8192, 12, 0, "cpu"))
    rows = Rows(RingPlanes(replace(RING, planes=planes), signature), memoryview(bytearray(16384)), 0, 1)
    form = rows.shape({"a": (4,)})
    assert form.expected == ((8192, (1, 2, 4), "I8"),)
    assert form.outputs["y"].shape == (1, 2, 4)
    for sample in ((2, 3), (2, 5), (2, 6), (1, 4), (2, 0)):
        assert rows.view_outputs(((8192, (1, *sample), "I8"),), form) is None
    assert rows.view_outputs(form.expected, form)["y"].shape == (1, 2, 4)
