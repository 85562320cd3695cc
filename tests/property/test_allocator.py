"""Laws of the slot allocator, against a set of taken slots as the oracle."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from ringbuf.ring import SlotAllocator


class Allocating(RuleBasedStateMachine):
    """No row has two owners, and rows are refused only where there is no gap."""

    leases = Bundle("leases")

    @initialize(slots=st.integers(1, 40))
    def start(self, slots):
        self.slots = slots
        self.allocator = SlotAllocator(slots)
        self.taken = set()

    @rule(target=leases, rows=st.integers(1, 12))
    def take(self, rows):
        slot = self.allocator.take(rows)
        if slot is None:
            starts = range(self.slots - rows + 1)
            assert not any(self.taken.isdisjoint(range(start, start + rows)) for start in starts)
            return multiple()
        mine = set(range(slot, slot + rows))
        assert mine <= set(range(self.slots))
        assert self.taken.isdisjoint(mine)
        self.taken |= mine
        return slot, rows

    @rule(lease=consumes(leases))
    def give_back(self, lease):
        slot, rows = lease
        self.allocator.give_back(slot, rows)
        self.taken -= set(range(slot, slot + rows))

    @invariant()
    def counts_agree(self):
        assert self.allocator.free == self.slots - len(self.taken)


TestAllocating = Allocating.TestCase


@given(st.lists(st.integers(1, 8), min_size=1, max_size=20))
def test_what_is_taken_in_a_row_lies_in_a_row(sizes):
    allocator, end = SlotAllocator(sum(sizes)), 0
    for rows in sizes:
        assert allocator.take(rows) == end
        end += rows
    assert allocator.take(1) is None
