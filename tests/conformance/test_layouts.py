"""`ringbuf.layout` on every geometry of `spec/vectors/layouts.json`."""

import pytest

from ringbuf.errors import RingbrokerError
from ringbuf.layout import MAX_BYTES, PAGE_BYTES, PlaneGeometry, lay_out
from tests.conformance.vectors import load

LAYOUTS = load("vectors/layouts.json")


def place(vector):
    planes = [PlaneGeometry(plane["dtype"], tuple(map(int, plane["sample"]))) for plane in vector["planes"]]
    return lay_out(int(vector["slots"]), planes)


def test_constants():
    assert int(LAYOUTS["page_bytes"]) == PAGE_BYTES
    assert int(LAYOUTS["max_bytes"]) == MAX_BYTES


@pytest.mark.parametrize("vector", LAYOUTS["layouts"], ids=lambda vector: vector["name"])
def test_layout(vector):
    if vector["error"] is not None:
        with pytest.raises(RingbrokerError) as caught:
            place(vector)
        assert caught.value.code == vector["error"]["code"]
        return
    layout = place(vector)
    assert [str(plane.offset) for plane in layout.planes] == vector["offsets"]
    assert [str(plane.stride) for plane in layout.planes] == vector["strides"]
    assert str(layout.segment_bytes) == vector["segment_bytes"]
