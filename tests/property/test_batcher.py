"""The batcher's laws, over random requests, cancels, deadlines and batches of several rings."""

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.batcher import Batcher, Form, Request, RingQueue

FULL = None
SHORT = Form(((3,),), ((3,),))
LONG = Form(((16,),), ((16,),))  # a full row of the last ring
RINGS = 4
SLOTS = 12


class Policy(NamedTuple):
    """What the batcher needs of a model."""

    number: int
    max_batch: int
    gathers: bool = False
    max_queue_delay_ns: int = 0


class Rows:
    """What the batcher needs of a ring: its queue, its model, and who owns its rows."""

    def __init__(self, number, model, slots=SLOTS):
        self.number = number
        self.model = model
        self.max_batch = model.max_batch
        self.slots = slots
        self.queue = RingQueue()
        self.full_form = LONG if number == 3 else Form(((8,),), ((8,),))
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

    @initialize(
        models=st.lists(
            st.builds(Policy, st.integers(0, 9), st.integers(1, 6), st.booleans(), st.sampled_from([0, 0, 0, 2, 5])),
            min_size=1,
            max_size=RINGS,
        )
    )
    def begin(self, models):
        self.batcher = Batcher()
        self.rings = [Rows(number, models[number % len(models)]) for number in range(RINGS)]
        self.canaries = {id(model): model._replace() for model in models}
        self.waiting = []
        self.running = []
        self.answers = {}
        self.passed_over = dict.fromkeys(range(RINGS), 0)
        self.now_ns = 1
        self.count = 0

    def answer(self, request, how):
        assert self.answers.setdefault(request.id, how) == how
        self.waiting.remove(request)

    @rule(
        number=st.integers(0, RINGS - 1),
        slot=st.integers(0, SLOTS - 1),
        rows=st.integers(1, 3),
        form=st.sampled_from([FULL, FULL, FULL, SHORT]),
        is_canary=st.sampled_from([False, False, True]),
        patience_ns=st.none() | st.integers(0, 3),
    )
    def add(self, number, slot, rows, form, is_canary, patience_ns):
        ring = self.rings[number]
        rows = min(rows, ring.max_batch)
        if slot + rows > ring.slots or ring.owned & set(range(slot, slot + rows)):
            return
        deadline_ns = None if patience_ns is None else self.now_ns + patience_ns
        request = Request(None, ring, self.count, slot, rows, form, deadline_ns, self.now_ns, None, ring.model)
        if is_canary:
            request.model = self.canaries[id(ring.model)]
        self.count += 1
        self.batcher.add(request)
        self.waiting.append(request)

    @rule(ns=st.integers(1, 2))
    def time_passes(self, ns):
        self.now_ns += ns

    @rule()
    def start(self):
        before = list(self.waiting)
        self.due_before = [self.due_ns(ring) for ring in self.rings]
        due_ns = self.batcher.due_ns()
        if any(
            due <= self.now_ns for ring, due in zip(self.rings, self.due_before, strict=True) if ring in self.ringing()
        ):
            assert due_ns <= self.now_ns, "the batcher would let a due request wait"
        batch = self.batcher.start(self.now_ns)
        for request in self.batcher.expired:
            assert request.deadline_ns <= self.now_ns
            self.answer(request, "expired")
            self.passed_over[request.ring.number] = 0  # its turn came, and found it too late
        self.batcher.expired.clear()
        if batch is None:
            assert all(self.due_ns(ring) > self.now_ns for ring in self.ringing()), "requests are due, and nothing runs"
            self.passed_over = dict.fromkeys(range(RINGS), 0)  # nobody was served, so nobody was passed over
            return
        runs = [batch, *batch.gathered]
        for run in runs:
            self.check_shape(run)
            self.check_head(run, before, runs)
        self.check_gathered(batch)
        assert self.due_before[batch.ring.number] <= self.now_ns, "a request was run before its time"
        self.check_turn(runs)
        for run in runs:
            for request in run.requests:
                self.answer(request, "batch")
        self.running.append(batch)

    def ringing(self):
        """The rings that have something waiting."""
        return [ring for ring in self.rings if any(request.ring is ring for request in self.waiting)]

    def due_ns(self, ring):
        """When the ring's oldest request must be run, by the words of `Batcher`'s docstring."""
        waiting = [request for request in self.waiting if request.ring is ring]
        if not waiting or sum(r.rows for r in waiting) >= ring.max_batch or not ring.model.max_queue_delay_ns:
            return 0
        return min(
            r.received_ns
            + min(
                ring.model.max_queue_delay_ns, 10**9 if r.deadline_ns is None else (r.deadline_ns - r.received_ns) // 2
            )
            for r in waiting
        )

    def check_shape(self, batch):
        assert 1 <= batch.rows <= batch.ring.max_batch
        assert {request.ring for request in batch.requests} == {batch.ring}
        slot = batch.slot
        for request in batch.requests:
            assert request.slot == slot, "the rows of a batch are adjacent"
            assert request.form == batch.form
            assert request.model is batch.model
            assert request.deadline_ns is None or request.deadline_ns > self.now_ns
            slot += request.rows
        assert slot == batch.slot + batch.rows

    def check_head(self, batch, before, runs):
        if batch is not runs[0]:
            return
        in_time = [r for r in before if r.ring is batch.ring and (r.deadline_ns is None or r.deadline_ns > self.now_ns)]
        assert in_time[0] in batch.requests, "the ring's oldest request runs first"
        taken = [request for run in runs for request in run.requests]
        left = [r for r in in_time if r not in taken and r.form == batch.form and r.model is batch.model]
        room = batch.ring.max_batch - batch.rows
        ends = {batch.slot + batch.rows}
        joined = [r for r in left if r.slot in ends or r.slot + r.rows == batch.slot]
        assert all(r.rows > room for r in joined), "a neighbour that fits was left out"

    def check_gathered(self, batch):
        rows = batch.rows
        for run in batch.gathered:
            assert batch.ring.model.gathers
            assert run.ring.model is batch.ring.model
            assert run.model is batch.model
            assert (run.form or run.ring.full_form) == (batch.form or batch.ring.full_form)
            assert not run.gathered
            rows += run.rows
        assert rows <= batch.ring.max_batch

    def check_turn(self, runs):
        served = [run.ring for run in runs]
        for ring in self.ringing():
            if ring not in served and self.due_before[ring.number] <= self.now_ns:
                self.passed_over[ring.number] += 1
                assert self.passed_over[ring.number] < RINGS, "a ring waited longer than the others' turns"
        for ring in served:
            self.passed_over[ring.number] = 0

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
        runs = (batch, *batch.gathered)
        assert not any(self.batcher.cancel(request) for run in runs for request in run.requests)

    @invariant()
    def rows_belong_to_what_waits_or_runs(self):
        for ring in getattr(self, "rings", ()):
            spans = [(r.slot, r.rows) for r in self.waiting if r.ring is ring]
            runs = [run for batch in self.running for run in (batch, *batch.gathered)]
            spans += [(run.slot, run.rows) for run in runs if run.ring is ring]
            rows = [row for slot, count in spans for row in range(slot, slot + count)]
            assert len(rows) == len(set(rows))
            assert set(rows) == ring.owned
            if not any(r.ring is ring for r in self.waiting):
                self.passed_over[ring.number] = 0  # it waits for nothing

    def teardown(self):
        while getattr(self, "waiting", None):
            self.start()
            self.now_ns += 1
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
    ring = Rows(0, Policy(0, max_batch))
    for slot in order:
        batcher.add(Request(None, ring, slot, slot, 1, FULL, None, 0, None, ring.model))
    batch = batcher.start(0)
    assert batch.rows == max_batch
    assert batch.slot <= order[0] < batch.slot + batch.rows


def test_a_model_that_gathers_runs_rows_of_all_its_rings_together():
    batcher = Batcher()
    model, other = Policy(0, 8, gathers=True), Policy(1, 8)
    rings = [Rows(number, model) for number in range(3)] + [Rows(3, other)]
    for ring in rings:
        for slot in (0, 5, 6):
            batcher.add(Request(None, ring, slot, slot, 1, FULL, None, 0, None, ring.model))
    batch = batcher.start(0)
    spans = [(run.ring.number, run.slot, run.rows) for run in (batch, *batch.gathered)]
    assert spans == [(0, 0, 1), (1, 0, 1), (1, 5, 2), (2, 0, 1), (2, 5, 2), (0, 5, 1)]


def test_a_request_waits_for_others_as_long_as_its_model_lets_it():
    batcher = Batcher()
    ring = Rows(0, Policy(0, 2, max_queue_delay_ns=100))
    batcher.add(Request(None, ring, 0, 0, 1, FULL, None, 1000, None, ring.model))
    assert batcher.due_ns() == 1100
    assert batcher.start(1099) is None
    assert batcher.start(1100).rows == 1
    batcher.add(Request(None, ring, 1, 1, 1, FULL, 1250, 1200, None, ring.model))
    assert batcher.due_ns() == 1225, "not longer than half of what its deadline leaves"
    batcher.add(Request(None, ring, 2, 2, 1, FULL, None, 1201, None, ring.model))
    assert batcher.start(1202).rows == 2, "a whole batch waits for nobody"
    assert batcher.due_ns() is None


def test_a_gathered_batch_takes_what_is_of_its_form_wherever_it_stands():
    batcher = Batcher()
    ring = Rows(0, Policy(0, 4, gathers=True))
    forms = [FULL, SHORT, SHORT, FULL, SHORT, FULL, FULL, FULL]
    for slot, form in enumerate(forms):
        batcher.add(Request(None, ring, slot, slot, 1, form, None, 0, None, ring.model))
    batch = batcher.start(0)
    assert [(run.slot, run.rows) for run in (batch, *batch.gathered)] == [(0, 1), (3, 1), (5, 2)]
    batch = batcher.start(0)
    assert [(run.slot, run.rows) for run in (batch, *batch.gathered)] == [(1, 2), (4, 1)]
    assert batcher.start(0).slot == 7
