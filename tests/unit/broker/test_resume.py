"""Sessions that go on in another worker: what is kept, what is gone, and who may take it up."""

import gc
import os
from dataclasses import replace
from itertools import count
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ringbuf import segment
from ringbuf.errors import Code, RingbrokerError
from ringbuf.segment import SHM_DIR
from ringbuf.wire import messages
from tests.conformance.reference_models import SOURCES, Model
from tests.unit.broker import parts
from tests.unit.broker.parts import HELLO, Talk, infer, load_model, open_message
from tests.unit.broker.test_session import run_batch


def resuming(talk):
    """The HELLO that goes on with another talk."""
    return messages.Hello(1, 0, HELLO.client, messages.HelloOptions(resume=talk.welcome.resume_token))


def lose(talk, now_ns=1, lost=None):
    """The talk's worker dies."""
    talk.session._context.keeper.roster.ended(talk.session.number, now_ns, is_resumable=True, lost=lost)


@pytest.fixture
def other_worker(context, catalog, store):
    """Another worker of the same supervisor, with models loaded anew."""
    return replace(parts.build_context(catalog, store), keeper=context.keeper)


def plane(memory, ring, name):
    at = next(plane for plane in ring.planes if plane.name == name)
    return np.frombuffer(memory.buffer, np.float32, ring.slots * 4, at.offset).reshape(ring.slots, 4)


def test_a_ring_goes_on_in_another_worker_with_its_data(context, other_worker):
    talk = Talk(context)
    (ring,) = talk.say(open_message(1))
    memory = segment.attach(ring.segment.path, ring.segment.bytes)
    talk.say(messages.Attached(ring.ring, 0))
    plane(memory, ring, "x")[3] = [1, 2, 3, 4]
    talk.say(infer(ring, 2, slot=3))  # lost with its worker
    lose(talk)

    heir = Talk(other_worker, resuming(talk))
    assert heir.welcome.session == talk.welcome.session
    assert heir.welcome.resume_token not in (None, talk.welcome.resume_token)
    assert heir.welcome.options.rings == ((ring.ring, 0),)
    assert heir.welcome.options.lost is None
    assert heir.say(infer(ring, 2, slot=3)) == []  # from the same rows, which are the client's again
    run_batch(other_worker)
    (result,) = heir.take()
    assert isinstance(result, messages.Result)
    assert plane(memory, ring, "y")[3].tolist() == [2, 4, 6, 8]
    assert heir.open_ring().ring == ring.ring + 1


def test_what_was_not_attached_is_gone(context, other_worker, store):
    talk = Talk(context)
    kept = talk.open_ring()
    (unattached,) = talk.say(open_message(2))
    assert len(list(SHM_DIR.glob(store.prefix + "*"))) == 1
    lose(talk)
    assert not list(SHM_DIR.glob(store.prefix + "*"))
    heir = Talk(other_worker, resuming(talk))
    assert heir.welcome.options.rings == ((kept.ring, 0),)
    (error,) = heir.say(infer(unattached, 3))
    assert error.code == Code.UNKNOWN_RING


def test_a_ring_that_was_closed_is_not_resumed(context, other_worker):
    talk = Talk(context)
    first, second = talk.open_ring(), talk.open_ring()
    talk.say(messages.Close(1, first.ring))
    lose(talk)
    heir = Talk(other_worker, resuming(talk))
    assert heir.welcome.options.rings == ((second.ring, 0),)


def test_a_ring_of_another_signature_is_told_and_freed(context, other_worker):
    talk = Talk(context)
    ring = talk.open_ring()
    record = context.keeper.roster.sessions[talk.session.number]
    kept = record.rings[ring.ring]
    record.rings[ring.ring] = type(kept)(
        msgspec.structs.replace(kept.record, fingerprint=b"another"), kept.memory, kept.is_attached
    )
    lose(talk)
    heir = Talk(other_worker, resuming(talk))
    assert heir.welcome.options.rings == ((ring.ring, 6006),)  # SIGNATURE_CHANGED
    (error,) = heir.say(infer(ring, 1))
    assert error.code == Code.UNKNOWN_RING
    assert context.keeper.roster.segment_bytes == 0


def counts():
    """y = x + how often it was run: as `twice` to look at, but stateful."""
    runs = count(1)
    return Model(lambda x: x + next(runs), {"x": "F32[batch,4]"}, {"y": "F32[batch,4]"})


USUAL = {"source": SOURCES["twice"], "max_batch": 8}
STATEFUL = {"source": f"{__name__}:counts"}
CANARY = [USUAL, {**STATEFUL, "version": "2", "is_candidate": True}]


@pytest.mark.parametrize(
    ("asked", "reloaded", "code", "is_stateful"),
    [
        ({"slots": 4}, [USUAL | {"max_batch": 4}], 0, None),
        ({"slots": 8}, [USUAL | {"max_batch": 4}], Code.SIGNATURE_CHANGED, None),
        ({"slots": 1}, [STATEFUL], Code.SIGNATURE_CHANGED, True),
        ({"slots": 1}, CANARY, Code.SIGNATURE_CHANGED, True),
        ({"slots": 1, "version": "1"}, CANARY, 0, None),
    ],
    ids=["as many rows", "fewer rows", "stateful", "a stateful candidate", "a stateful candidate of no concern"],
)
def test_a_ring_goes_on_where_what_was_told_of_it_holds(context, store, asked, reloaded, code, is_stateful):
    talk = Talk(context)
    ring = talk.open_ring(**asked)
    assert ring.options.stateful is None
    lose(talk)
    catalog = parts.catalog_of(load_model(name="twice", **said) for said in reloaded)
    heir = Talk(replace(parts.build_context(catalog, store), keeper=context.keeper), resuming(talk))
    assert heir.welcome.options.rings == ((ring.ring, code),)
    assert heir.open_ring(**asked).options.stateful is is_stateful


def test_why_a_worker_was_ended_is_told(context, other_worker):
    talk = Talk(context)
    lose(talk, lost=Code.EXECUTION_TIMEOUT)
    assert Talk(other_worker, resuming(talk)).welcome.options.lost == Code.EXECUTION_TIMEOUT


def test_a_token_is_good_for_one_resume(context, other_worker):
    talk = Talk(context)
    lose(talk)
    heir = Talk(other_worker, resuming(talk))
    lose(heir)
    Talk(context, resuming(heir))
    assert refusal(context, resuming(talk)) == (Code.RESUME_REFUSED, "options.resume")


def test_a_worker_that_dies_before_its_welcome_is_heard_costs_nothing(context, other_worker):
    talk = Talk(context)
    ring = talk.open_ring()
    lose(talk)
    for worker in (other_worker, context, other_worker):
        lose(Talk(worker, resuming(talk)))  # its WELCOME, with the new token, never came
    assert Talk(context, resuming(talk)).welcome.options.rings == ((ring.ring, 0),)


def test_why_a_worker_was_ended_is_told_until_it_was_heard(context, other_worker):
    """A hanging request that is asked again, because the WELCOME that forbids it was lost, would hang again."""
    talk = Talk(context)
    lose(talk, lost=Code.EXECUTION_TIMEOUT)
    lose(Talk(other_worker, resuming(talk)))
    heir = Talk(context, resuming(talk))
    assert heir.welcome.options.lost == Code.EXECUTION_TIMEOUT
    lose(heir)
    assert Talk(other_worker, resuming(heir)).welcome.options.lost is None


def test_a_session_that_was_closed_cannot_be_resumed(context):
    talk = Talk(context)
    talk.open_ring()
    talk.session.closed()
    assert refusal(context, resuming(talk)) == (Code.RESUME_REFUSED, "options.resume")
    assert context.keeper.roster.sessions == {}


def test_a_session_that_was_sent_away_can(context, other_worker):
    talk = Talk(context)
    ring = talk.open_ring()
    talk.session.send_away("reload", 1000)
    assert talk.take() == [messages.GoAway("reload", 1000)]
    talk.say(infer(ring, 1))
    run_batch(context)
    assert [answer.id for answer in talk.take()] == [1], "what is due is answered still"
    talk.session.closed()
    assert Talk(other_worker, resuming(talk)).welcome.options.rings == ((ring.ring, 0),)


def test_a_session_is_not_kept_for_ever(context):
    talk = Talk(context)
    talk.open_ring()
    before = descriptors()
    lose(talk, now_ns=1000)
    context.keeper.roster.expire(1099)
    assert context.keeper.roster.sessions
    context.keeper.roster.expire(1100)
    assert context.keeper.roster.sessions == {}
    assert descriptors() == before - 1
    assert refusal(context, resuming(talk)) == (Code.RESUME_REFUSED, "options.resume")


def test_memory_that_comes_for_a_session_that_is_gone_is_freed(context, store):
    talk = Talk(context)
    (ring,) = talk.say(open_message(1))
    record = context.keeper.roster.sessions[talk.session.number].rings[ring.ring].record
    lose(talk)
    memory = store.create(8192)
    assert not context.keeper.roster.keep(talk.session.number, context, record, memory)
    with pytest.raises(OSError):
        os.fstat(memory.fd)


def test_pools(context):
    other = messages.Hello(1, 0, HELLO.client, messages.HelloOptions(pool="other"))
    assert refusal(context, other) == (Code.UNKNOWN_POOL, "options.pool")
    talk = Talk(context)
    lose(talk)
    with pytest.raises(RingbrokerError) as caught:
        context.keeper.roster.greet(resuming(talk), ["fast"])  # after a reload without the pool
    assert caught.value.code == Code.RESUME_REFUSED


@pytest.mark.parametrize("kinds", [("fd",), ("fd", "path"), ("later", "fd")])
def test_a_segment_by_descriptor(context, kinds):
    hello = messages.Hello(1, 0, HELLO.client, messages.HelloOptions(segments=kinds))
    talk = Talk(context, hello)
    (ring,) = talk.say(open_message(1))
    assert (ring.segment.kind, ring.segment.path) == ("fd", None)
    (fd,) = talk.session.descriptors
    memory = segment.attach_descriptor(os.dup(fd), ring.segment.bytes)
    talk.say(messages.Attached(ring.ring, 0), infer(ring, 2))
    plane(memory, ring, "x")[0] = 21
    run_batch(context)
    assert plane(memory, ring, "y")[0].tolist() == [42] * 4
    talk.session.closed()
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(fd)


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def refusal(context, hello):
    with pytest.raises(RingbrokerError) as caught:
        Talk(context, hello)
    return caught.value.code, caught.value.path
