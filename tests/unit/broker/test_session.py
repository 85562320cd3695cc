"""Sessions: nothing of one is left when it ends; and what the scripts of the spec do not reach."""

import gc
import os
import secrets
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.engine.models import inference_mode
from broker.execution import execute
from broker.handshake import Handshake
from broker.refusal import append_error
from broker.stats import DROPPED_REQUESTS, IN_FLIGHT, Stats
from ringbuf.errors import Code
from ringbuf.segment import SegmentStore
from ringbuf.wire import messages
from ringbuf.wire.messages import encode_frame
from tests.unit.broker import parts
from tests.unit.broker.parts import HELLO, Talk, infer, open_message

MODELS = {"twice": {}, "sum": {}, "open": {"seq": 4}}


def traces(prefix):
    """What the process has of a broker's segments: names, mappings, and its open descriptors."""
    names = [path.name for path in Path("/dev/shm").glob(prefix + "*")]
    mappings = [line for line in Path("/proc/self/maps").read_text().splitlines() if prefix in line]
    return names, mappings, len(list(Path("/proc/self/fd").iterdir()))


def run_batch(context, now_ns=1):
    """One batch, as the worker runs it."""
    batch = context.batcher.start(now_ns)
    for request in context.batcher.expired:
        request.session.refuse_request(request, parts.RingbrokerError(Code.DEADLINE_EXCEEDED, "late"))
    context.batcher.expired.clear()
    if batch is None:
        return
    with inference_mode():
        outcome = execute(batch)
    context.batcher.finish(batch)
    batch.requests[0].session.answer(batch, outcome, now_ns, now_ns)


class Conversation:
    """Random, valid talk of one session; every answer is looked at."""

    def __init__(self, context, number):
        self.context = context
        self.talk = Talk(context)
        self.rings = {}
        self.free = {}
        self.asked = {}
        self.count = 0

    def next_id(self):
        self.count += 1
        return self.count

    def step(self, draw):
        self.take(self.talk.take())  # of a batch that another conversation ran
        actions = ["open", "ping", "list", "run", "leave"]
        if self.rings:
            actions += ["infer"] * 6 + ["short", "close", "refused"]
        if self.asked:
            actions += ["cancel"]
        getattr(self, draw(st.sampled_from(actions)))(draw)
        self.take(self.talk.take())

    def take(self, answers):
        for answer in answers:
            if isinstance(answer, messages.Result) or (isinstance(answer, messages.Error) and answer.id in self.asked):
                ring, slot = self.asked.pop(answer.id)
                if ring in self.free:
                    self.free[ring].add(slot)

    def open(self, draw):
        model = draw(st.sampled_from(sorted(MODELS)))
        answers = self.talk.say(open_message(self.next_id(), model, slots=4, maxima=MODELS[model]))
        if isinstance(answers[0], messages.Error):
            assert answers[0].code == Code.TOO_MANY_RINGS
            return
        ring = answers[0]
        how = draw(st.sampled_from(["attached", "attached", "failed", "silent"]))
        if how == "silent":
            return
        self.talk.say(messages.Attached(ring.ring, 0 if how == "attached" else Code.ATTACH_FAILED))
        if how == "attached":
            self.rings[ring.ring] = ring
            self.free[ring.ring] = set(range(ring.slots))

    def infer(self, draw, samples=None):
        ring = draw(st.sampled_from(list(self.rings.values())))
        if not self.free[ring.ring]:
            return
        slot = draw(st.sampled_from(sorted(self.free[ring.ring])))
        deadline_ns = draw(st.sampled_from([None, None, 0, 2**52]))
        shapes = None
        if samples and ring.planes[0].sample != (4,):
            shapes = [samples] * sum(plane.direction == "in" for plane in ring.planes)
        request_id = self.next_id()
        self.free[ring.ring].discard(slot)
        self.asked[request_id] = (ring.ring, slot)
        self.take(self.talk.say(infer(ring, request_id, slot, samples=shapes, deadline_ns=deadline_ns)))

    def short(self, draw):
        self.infer(draw, samples=(draw(st.integers(1, 4)),))

    def refused(self, draw):
        ring = draw(st.sampled_from(list(self.rings.values())))
        ask = infer(ring, self.next_id(), slot=ring.slots)
        (error,) = self.talk.say(ask)
        assert error.code == Code.ROWS_OUT_OF_RANGE

    def cancel(self, draw):
        self.take(self.talk.say(messages.Cancel(draw(st.sampled_from(sorted(self.asked))))))

    def close(self, draw):
        number = draw(st.sampled_from(sorted(self.rings)))
        answers = self.talk.say(messages.Close(self.next_id(), number))
        assert isinstance(answers[-1], messages.Closed)
        del self.rings[number], self.free[number]
        self.take(answers)

    def run(self, draw):
        run_batch(self.context)

    def ping(self, draw):
        assert self.talk.say(messages.Ping(5)) == [messages.Pong(5)]

    def list(self, draw):
        (answer,) = self.talk.say(messages.List(self.next_id(), 0))
        assert len(answer.models) == len(MODELS)

    def leave(self, draw):
        """Say nothing."""


@pytest.fixture
def no_garbage_collector():
    """Counting references alone has to free what a session held."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collector")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), sessions=st.integers(1, 3), steps=st.integers(0, 25))
def test_nothing_is_left_of_a_session_that_ended(catalog, data, sessions, steps):
    store = SegmentStore(f"/nowhere/{secrets.token_hex(8)}")
    try:
        converse(catalog, store, data, sessions, steps)
    finally:
        store.sweep()  # hypothesis gives some examples up half-way


def converse(catalog, store, data, sessions, steps):
    context = parts.build_context(catalog, store)
    before = traces(store.prefix)
    assert before[:2] == ([], [])
    talks = [Conversation(context, number) for number in range(sessions)]
    for _ in range(steps):
        data.draw(st.sampled_from(talks)).step(data.draw)
    for conversation in talks:
        conversation.take(conversation.talk.take())
        session = conversation.talk.session
        assert set(session.in_flight) == set(conversation.asked), "what was asked and not answered is in flight"
        session.closed()
        assert (session.rings, session.in_flight) == ({}, {})
    assert context.stats.page[IN_FLIGHT] == 0
    assert context.batcher.start(1) is None
    assert (context.batcher.has_waiting, context.batcher.expired) == (False, [])
    conversation.talk = None
    del talks, conversation
    assert traces(store.prefix) == before


def test_the_other_sessions_keep_what_is_theirs(context, store):
    first, second = Talk(context), Talk(context)
    ring, other = first.open_ring(), second.open_ring()
    first.say(infer(ring, 1))
    second.say(infer(other, 1))
    first.session.closed()
    run_batch(context)
    (result,) = second.take()
    assert (result.id, result.batch_rows) == (1, 1)
    assert first.take() == []
    assert context.stats.page[DROPPED_REQUESTS] == 1
    second.session.closed()


def test_sessions_of_one_house_do_not_share_ring_numbers_or_ids(context):
    first, second = Talk(context), Talk(context)
    assert first.open_ring().ring == second.open_ring().ring == 1
    assert first.say(messages.Close(1, 1)) == [messages.Closed(1, 1)]
    assert first.open_ring().ring == 2  # a number is not used again: a late message cannot mean another ring
    first.session.closed()
    second.session.closed()


def test_an_error_after_valid_frames_comes_behind_their_answers(context):
    talk = Talk(context)
    ring = talk.open_ring()
    spoken = (
        encode_frame(messages.Ping(1))
        + encode_frame(infer(ring, 4))
        + b"\x00\x00\x00\x00"
        + encode_frame(messages.Ping(2))
    )
    talk.session.receive(spoken, 1)
    pong, error = talk.take()
    assert pong == messages.Pong(1)
    assert (error.id, error.code) == (None, Code.BAD_MSGPACK)
    assert talk.session.ended
    talk.session.closed()
    assert not context.batcher.start(1)


def test_a_length_over_the_limit_is_answered_before_its_bytes_come(context):
    talk = Talk(context)
    talk.session.receive(encode_frame(messages.Ping(1)) + (65537).to_bytes(4, "little"), 1)
    pong, error = talk.take()
    assert (pong.token, error.code, talk.session.ended) == (1, Code.FRAME_TOO_LARGE, True)


def test_a_text_over_the_limit_is_cut(context):
    talk = Talk(context)
    append_error(talk.session.out, context.stats, None, parts.RingbrokerError(Code.UNEXPECTED_MESSAGE, "x" * 5000))
    (error,) = talk.take()
    assert len(error.text) == 4096
    assert error.text.endswith("x...")


def test_any_split_of_the_bytes_gives_the_same_answers(context):
    spoken = b"".join(
        map(encode_frame, [messages.Ping(1), messages.List(2, 0), messages.Close(3, 9), messages.Ping(4)])
    )
    whole = Talk(context)
    whole.session.receive(spoken, 1)
    expected = whole.take()
    bytewise = Talk(context)
    for index in range(len(spoken)):
        bytewise.session.receive(spoken[index : index + 1], 1)
    assert bytewise.take() == expected
    assert len(expected) == 4


def test_a_full_shm_refuses_the_ring_and_keeps_the_session(catalog):
    def full(size_bytes, kind):
        raise parts.RingbrokerError(Code.SHM_FULL, "no room")

    context = parts.build_context(catalog, parts.Store(full))
    talk = Talk(context)
    (error,) = talk.say(open_message(1))
    assert (error.id, error.code, talk.session.rings) == (1, Code.SHM_FULL, {})
    assert talk.say(messages.Ping(1)) == [messages.Pong(1)]


def test_a_segment_that_is_cut_short_before_it_is_mapped_is_refused(catalog, store):
    def cut(size_bytes, kind):
        memory = store.create(size_bytes, kind)
        os.truncate(memory.path, size_bytes - 4096)
        return memory

    context = parts.build_context(catalog, parts.Store(cut))
    talk = Talk(context)
    (error,) = talk.say(open_message(1))
    assert (error.id, error.code, talk.session.rings) == (1, Code.SHM_FULL, {})
    assert context.keeper.roster.segment_bytes == 0
    assert talk.say(messages.Ping(1)) == [messages.Pong(1)]


def test_a_segment_that_is_cut_short_is_not_resumed(context):
    talk = Talk(context)
    (short,) = talk.say(open_message(1))
    os.truncate(short.segment.path, 4096)
    talk.say(messages.Attached(short.ring, 0))
    kept = talk.open_ring()
    context.keeper.roster.ended(talk.session.number, 1, is_resumable=True)
    resume = messages.HelloOptions(resume=talk.welcome.resume_token)
    heir = Talk(context, messages.Hello(1, 0, HELLO.client, resume))
    assert heir.welcome.options.rings == ((short.ring, Code.SIGNATURE_CHANGED), (kept.ring, 0))
    assert list(heir.session.rings) == [kept.ring]


class Greeting:
    """A handshake fed as the loop feeds it: at most as much as it asks for."""

    def __init__(self):
        self.hellos = []
        self.handshake = Handshake(Stats(), lambda _handshake, hello: self.hellos.append(hello))

    def feed(self, data):
        """Return the bytes that it did not take."""
        while data and not self.handshake.ended and not self.hellos:
            piece, data = data[: self.handshake.receive_bytes], data[self.handshake.receive_bytes :]
            self.handshake.receive(piece, 1)
        return data


def test_a_handshake_takes_the_hello_and_not_a_byte_more():
    greeting = Greeting()
    behind = encode_frame(messages.Ping(1))
    assert greeting.feed(encode_frame(HELLO) + behind) == behind
    assert greeting.hellos == [HELLO]
    assert not greeting.handshake.out


def test_a_handshake_takes_its_hello_byte_by_byte():
    greeting = Greeting()
    for byte in encode_frame(HELLO):
        assert greeting.feed(bytes([byte])) == b""
    assert greeting.hellos == [HELLO]


@pytest.mark.parametrize(
    ("spoken", "code"),
    [
        (b"\x00\x00\x00\x00", Code.BAD_MSGPACK),
        (b"\x01\x00\x01\x00", Code.FRAME_TOO_LARGE),
        (b"\xff\xff\xff\xff", Code.FRAME_TOO_LARGE),
        (encode_frame(messages.Ping(1)), Code.UNEXPECTED_MESSAGE),
        (encode_frame(messages.Hello(2, 0, HELLO.client, HELLO.options)), Code.VERSION_UNSUPPORTED),
        (encode_frame(messages.Pong(1)), Code.UNKNOWN_MESSAGE),
    ],
)
def test_a_handshake_refuses(spoken, code):
    greeting = Greeting()
    greeting.feed(spoken)
    (error,) = parts.decode_all(greeting.handshake.out)
    assert (error.id, error.code) == (None, code)
    assert greeting.handshake.ended
    assert greeting.hellos == []


def test_the_minor_version_is_the_smaller_one(context):
    newer = messages.Hello(1, 7, HELLO.client, HELLO.options)
    welcome = Talk(context, newer).welcome
    assert (welcome.major, welcome.minor, welcome.options.pool) == (1, 0, "default")
