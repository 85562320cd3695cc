"""Opening rings: maxima, limits, and how the planes lie."""

import pytest

from broker.ring import DEFAULT_RING_BYTES, descriptors
from ringbuf.errors import Code, RingbrokerError
from ringbuf.segment import SegmentStore
from ringbuf.wire import messages
from tests.unit.broker.parts import open_message, open_ring, told

LIMITS = messages.Limits(65536, 2**20, 64, 4)


def opened(catalog, store, model="twice", *, limits=LIMITS, default_slots=8, **asked):
    return open_ring(catalog, store, open_message(1, model, **asked), limits, default_slots)


def refusal(*arguments, **asked):
    with pytest.raises(RingbrokerError) as caught:
        opened(*arguments, **asked)
    return caught.value.code, caught.value.path


def test_slots_and_rows(catalog, store):
    ring = opened(catalog, store, slots=5)
    assert (ring.slots, ring.max_rows, ring.max_batch) == (5, 5, 8)
    assert opened(catalog, store, slots=64).max_rows == 8


def test_slots_left_to_the_broker(catalog, store):
    assert opened(catalog, store, slots=0).slots == 8
    limits = messages.Limits(65536, 2**40, 64, 4)
    slot_bytes = 2 * 8  # of `open` for each step of `seq`
    for slots in (1, 2, 6):
        seq = DEFAULT_RING_BYTES // slots // slot_bytes
        assert opened(catalog, store, "open", slots=0, maxima={"seq": seq}, limits=limits).slots == slots
    assert opened(catalog, store, "open", slots=0, maxima={"seq": DEFAULT_RING_BYTES}, limits=limits).slots == 1


def test_planes_are_what_the_client_is_told(catalog, store):
    ring = opened(catalog, store, "sum", slots=4, maxima={"seq": 5})
    planes = [(p.name, p.direction, p.dtype, p.sample, p.offset, p.stride, p.batch_axis, p.device) for p in ring.planes]
    assert planes == [
        ("a", "in", "I64", (5,), 4096, 40, 0, "cpu"),
        ("b", "in", "I64", (5,), 8192, 40, 0, "cpu"),
        ("y", "out", "I64", (5,), 12288, 40, 0, "cpu"),
    ]
    assert ring.segment.size_bytes == 16384
    message = told(ring)
    assert (message.planes, message.slots, message.max_rows) == (ring.planes, 4, 4)
    assert ring.single_inputs[3] == ((4096 + 120, (1, 5), "I64"), (8192 + 120, (1, 5), "I64"))
    assert descriptors(ring.out_planes, 1, 2, ((3,),)) == ((12288 + 40, (2, 3), "I64"),)


def test_maxima_default_to_the_models(catalog, store):
    assert opened(catalog, store, "sum").planes[0].sample == (16,)
    assert opened(catalog, store, "sum", maxima={"seq": 16}).planes[0].sample == (16,)
    assert opened(catalog, store, "sum", maxima={"seq": 1}).planes[0].sample == (1,)


@pytest.mark.parametrize(
    ("model", "maxima", "code"),
    [
        ("sum", {"seq": 17}, Code.MAXIMUM_TOO_LARGE),
        ("sum", {"seq": 0}, Code.MAXIMUM_TOO_LARGE),
        ("open", {"seq": 0}, Code.MAXIMUM_TOO_LARGE),
        ("sum", {"batch": 4}, Code.UNKNOWN_DIM),
        ("twice", {"seq": 4}, Code.UNKNOWN_DIM),
        ("open", {}, Code.MAXIMUM_MISSING),
    ],
)
def test_maxima_that_are_refused(catalog, store, model, maxima, code):
    dim = next(iter(maxima), "seq")
    assert refusal(catalog, store, model, maxima=maxima) == (code, f"maxima.{dim}")


def test_limits(catalog, store):
    assert opened(catalog, store, slots=64).slots == 64
    assert refusal(catalog, store, slots=65) == (Code.TOO_MANY_SLOTS, "slots")
    assert refusal(catalog, store, slots=2**53 - 1) == (Code.TOO_MANY_SLOTS, "slots")
    assert refusal(catalog, store, "open", slots=1, maxima={"seq": 2**53 - 1}) == (Code.RING_TOO_LARGE, "slots")
    assert refusal(catalog, store, "open", slots=0, maxima={"seq": 2**53 - 1}) == (Code.RING_TOO_LARGE, "slots")


def test_the_largest_ring_within_the_limit(catalog, store):
    most = (LIMITS.segment_bytes - 3 * 4096) // 16
    ring = opened(catalog, store, "open", slots=1, maxima={"seq": most})
    assert ring.segment.size_bytes <= LIMITS.segment_bytes
    assert refusal(catalog, store, "open", slots=1, maxima={"seq": most + 1}) == (Code.RING_TOO_LARGE, "slots")


def test_no_room_in_shm(catalog, tmp_path):
    """More than any /dev/shm: the reservation itself fails, and leaves no name."""
    store = SegmentStore(str(tmp_path / "sock"))
    limits = messages.Limits(65536, 2**53 - 1, 64, 4)
    with pytest.raises(RingbrokerError) as caught:
        opened(catalog, store, "open", slots=1, maxima={"seq": 2**45}, limits=limits)
    assert caught.value.code == Code.SHM_FULL
    assert store.sweep() == 0


def test_rows_in_flight(catalog, store):
    ring = opened(catalog, store, slots=8)
    ring.claim(2, 1)
    ring.claim(4, 3)
    assert [ring.is_in_flight(slot, 1) for slot in range(8)] == [False, False, True, False, True, True, True, False]
    assert ring.is_in_flight(0, 3)
    assert ring.is_in_flight(6, 2)
    assert not ring.is_in_flight(0, 2)
    ring.release(4, 3)
    ring.release(2, 1)
    assert not ring.is_in_flight(0, 8)
