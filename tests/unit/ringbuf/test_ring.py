"""The allocator's order: next-fit, so that leases taken one after another are adjacent."""

from ringbuf.ring import SlotAllocator


def test_leases_in_a_row_are_adjacent_and_go_round():
    slots = SlotAllocator(8)
    assert [slots.take(1), slots.take(2), slots.take(3)] == [0, 1, 3]
    slots.give_back(0, 1)
    assert slots.take(1) == 6  # next-fit: not the first gap
    assert slots.take(1) == 7
    assert slots.take(1) == 0
    assert slots.take(1) is None


def test_a_slow_holder_is_skipped():
    slots = SlotAllocator(4)
    slots.take(1)
    for _ in range(10):
        slot = slots.take(1)
        assert slot in (1, 2, 3)
        slots.give_back(slot, 1)


def test_rows_are_adjacent_or_not_at_all():
    slots = SlotAllocator(4)
    for _ in range(4):
        slots.take(1)
    slots.give_back(0, 1)
    slots.give_back(2, 1)
    assert slots.free == 2
    assert slots.take(2) is None
    slots.give_back(1, 1)
    assert slots.take(3) == 0


def test_a_gap_behind_the_cursor_that_reaches_past_it_is_found():
    slots = SlotAllocator(8)
    slots.take(6)
    slots.give_back(0, 6)
    assert slots.take(8) == 0


def test_no_gap_goes_round_the_end():
    slots = SlotAllocator(4)
    slots.take(4)
    slots.give_back(3, 1)
    slots.give_back(0, 1)
    assert slots.take(2) is None
