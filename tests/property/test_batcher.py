"""The batcher's laws, over random requests, cancels, deadlines and batches of several rings."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.batcher import Batcher, Request, RingQueue, Samples

FULL = None
SHORT = Samples(((3,),), ((3,),))
RINGS = 4
SLOTS = 12


class Rows:
    """What the batcher needs of a ring: its queue, its largest batch, and who owns its rows."""

    def __init__(self, number, max_batch, slots=SLOTS):
        self.number = number
        self.max_batch = max_batch
        self.slots = slots
        self.queue = RingQueue()
        self.owned = set()

    def claim(self, slot, rows):
        taken = set(range(slot, slot + rows))
        assert not taken & self.owned, "a row has two owners"
        self.owned |= taken

    def release(self, slot, rows):
        given_back = set(range(slot, slot + rows))
        assert given_back <= self.owned, "a row was given back twice"
        self.owned -= given_back


class BatcherMachine(RuleBasedStateMachine):
    """Random calls; `waiting` is every request without an answer, oldest first."""

    @initialize(max_batches=st.lists(st.integers(1, 6), min_size=RINGS, max_size=RINGS))
    def begin(self, max_batches):
        self.batcher = Batcher()
        self.rings = [Rows(number, max_batch) for number, max_batch in enumerate(max_batches)]
        self.waiting = []
        self.running = []
        self.answers = {}
        self.passed_over = dict.fromkeys(range(RINGS), 0)
        self.now_ns = 0
        self.count = 0

    def answer(self, request, how):
        assert self.answers.setdefault(request.id, how) == how
        self.waiting.remove(request)

    @rule(
        number=st.integers(0, RINGS - 1),
        slot=st.integers(0, SLOTS - 1),
        rows=st.integers(1, 3),
        samples=st.sampled_from([FULL, FULL, FULL, SHORT]),
        patience_ns=st.none() | st.integers(0, 3),
    )
    def add(self, number, slot, rows, samples, patience_ns):
        ring = self.rings[number]
        rows = min(rows, ring.max_batch)
        if slot + rows > ring.slots or ring.owned & set(range(slot, slot + rows)):
            return
        deadline_ns = None if patience_ns is None else self.now_ns + patience_ns
        request = Request(None, ring, self.count, slot, rows, samples, deadline_ns, self.now_ns, None)
        self.count += 1
        self.batcher.add(request)
        self.waiting.append(request)

    @rule(ns=st.integers(1, 2))
    def time_passes(self, ns):
        self.now_ns += ns

    @rule()
    def start(self):
        before = list(self.waiting)
        batch = self.batcher.start(self.now_ns)
        for request in self.batcher.expired:
            assert request.deadline_ns <= self.now_ns
            self.answer(request, "expired")
            self.passed_over[request.ring.number] = 0  # its turn came, and found it too late
        self.batcher.expired.clear()
        if batch is None:
            assert not self.waiting, "requests wait and no batch was made"
            return
        self.check_shape(batch)
        self.check_head(batch, before)
        self.check_turn(batch)
        for request in batch.requests:
            self.answer(request, "batch")
        self.running.append(batch)

    def check_shape(self, batch):
        assert 1 <= batch.rows <= batch.ring.max_batch
        assert {request.ring for request in batch.requests} == {batch.ring}
        slot = batch.slot
        for request in batch.requests:
            assert request.slot == slot, "the rows of a batch are adjacent"
            assert request.samples == batch.samples
            assert request.deadline_ns is None or request.deadline_ns > self.now_ns
            slot += request.rows
        assert slot == batch.slot + batch.rows

    def check_head(self, batch, before):
        in_time = [r for r in before if r.ring is batch.ring and (r.deadline_ns is None or r.deadline_ns > self.now_ns)]
        assert in_time[0] in batch.requests, "the ring's oldest request runs first"
        left = [r for r in in_time if r not in batch.requests and r.samples == batch.samples]
        room = batch.ring.max_batch - batch.rows
        ends = {batch.slot + batch.rows}
        joined = [r for r in left if r.slot in ends or r.slot + r.rows == batch.slot]
        assert all(r.rows > room for r in joined), "a neighbour that fits was left out"

    def check_turn(self, batch):
        for number in {r.ring.number for r in self.waiting if r.ring is not batch.ring}:
            self.passed_over[number] += 1
            assert self.passed_over[number] < RINGS, "a ring waited longer than the others' turns"
        self.passed_over[batch.ring.number] = 0

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 99))
    def finish(self, which):
        self.batcher.finish(self.running.pop(which % len(self.running)))

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 99))
    def cancel(self, which):
        request = self.waiting[which % len(self.waiting)]
        assert self.batcher.cancel(request)
        self.answer(request, "cancelled")
        assert not self.batcher.cancel(request)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 99))
    def cancel_too_late(self, which):
        batch = self.running[which % len(self.running)]
        assert not any(self.batcher.cancel(request) for request in batch.requests)

    @invariant()
    def rows_belong_to_what_waits_or_runs(self):
        for ring in getattr(self, "rings", ()):
            spans = [(r.slot, r.rows) for r in self.waiting if r.ring is ring]
            spans += [(b.slot, b.rows) for b in self.running if b.ring is ring]
            rows = [row for slot, count in spans for row in range(slot, slot + count)]
            assert len(rows) == len(set(rows))
            assert set(rows) == ring.owned
            if not any(r.ring is ring for r in self.waiting):
                self.passed_over[ring.number] = 0  # it waits for nothing

    def teardown(self):
        while getattr(self, "waiting", None):
            self.start()
        for batch in getattr(self, "running", ()):
            self.batcher.finish(batch)
        if hasattr(self, "batcher"):
            assert self.batcher.start(self.now_ns) is None
            assert not self.batcher.has_waiting
            assert sorted(self.answers) == list(range(self.count)), "every request is answered once"
            assert not any(ring.owned for ring in self.rings)


TestBatcher = BatcherMachine.TestCase
TestBatcher.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(st.permutations(range(SLOTS)), st.integers(1, SLOTS))
def test_requests_that_are_adjacent_run_together_in_any_order_of_arrival(order, max_batch):
    batcher = Batcher()
    ring = Rows(0, max_batch)
    for slot in order:
        batcher.add(Request(None, ring, slot, slot, 1, FULL, None, 0, None))
    batch = batcher.start(0)
    assert batch.rows == max_batch
    assert batch.slot <= order[0] < batch.slot + batch.rows
