"""What is prepared for a request is exactly what the codec would have made."""

import pytest
from ringbroker.protocol import FIRST_ID
from ringbroker.rows import ID_AT, Frames, RingPlanes, Rows, pack_u64_into

from ringbuf.wire.messages import NO_INFER_EXTRA, Infer, encode_frame
from tests.unit.ringbroker.test_planes import RING


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
    return Rows(RingPlanes(RING, memoryview(bytearray(16384))), 2, 3)


def test_views_and_descriptors(rows):
    assert {name: view.shape for name, view in rows.inputs.items()} == {"x": (3, 4), "state": (3, 2, 3)}
    assert rows.outputs["x"].shape == (3, 5)
    assert rows.describe({}) == ((4096 + 2 * 16, (3, 4), "F32"), (8192 + 2 * 6, (3, 2, 3), "I8"))
    assert rows.describe({"state": (1, 3)})[1] == (8192 + 2 * 6, (3, 1, 3), "I8")
    assert rows.expected == ((12288 + 2 * 40, (3, 5), "F64"),)


def test_views_cannot_be_exchanged(rows):
    with pytest.raises(TypeError):
        rows.inputs["x"] = None


def test_outputs_of_another_size(rows):
    offset = rows.expected[0][0]
    for size in (0, 1, 4, 5):
        assert rows.view_outputs(((offset, (3, size), "F64"),))["x"].shape == (3, size)
    assert rows.view_outputs(((offset, (3, 6), "F64"),)) is None
    assert rows.view_outputs(((offset, (2, 5), "F64"),)) is None
