"""Where planes lie, beyond what the vectors of the spec say."""

import struct

import pytest

from ringbuf import layout
from ringbuf.errors import Code, RingbrokerError
from ringbuf.layout import PAGE_BYTES, PlaneGeometry, lay_out


def test_planes_follow_the_header_page_each_on_its_own_pages():
    image, mask, logits = PlaneGeometry("F32", (3, 5)), PlaneGeometry("BOOL", (7,)), PlaneGeometry("F64", ())
    placed = lay_out(100, [image, mask, logits])
    assert [plane.stride for plane in placed.planes] == [60, 7, 8]
    assert [plane.offset for plane in placed.planes] == [4096, 4096 + 8192, 4096 + 8192 + 4096]
    assert placed.segment_bytes == 4096 + 8192 + 4096 + 4096


def test_a_plane_that_fills_its_pages_leaves_no_gap():
    placed = lay_out(4, [PlaneGeometry("U8", (1024,)), PlaneGeometry("U8", (1,))])
    assert placed.planes[1].offset == 8192


def test_no_planes():
    assert lay_out(1, []) == layout.Layout((), PAGE_BYTES)


def test_nothing_wraps():
    with pytest.raises(RingbrokerError) as caught:
        lay_out(2**32, [PlaneGeometry("F64", (2**31, 2**31))])
    assert (caught.value.code, caught.value.path) == (Code.RING_TOO_LARGE, "slots")


def test_header_is_for_people():
    assert struct.unpack("<8sII", layout.header(1234)) == (b"RINGBRKR", 1, 1234)


@pytest.mark.parametrize(("size", "aligned"), [(0, 0), (1, 4096), (4096, 4096), (4097, 8192)])
def test_page_aligned(size, aligned):
    assert layout.page_aligned(size) == aligned


def test_unknown_dtype():
    with pytest.raises(KeyError):
        layout.tensor_bytes("F8", (1,))
