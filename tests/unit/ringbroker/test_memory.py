"""When a ring's memory is unmapped: with the last that may use it, and without the cyclic garbage collector."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import ringbroker
from ringbroker import aio

from ringbuf.errors import Code

ROWS = np.ones((1, 4), np.float32)

pytestmark = pytest.mark.usefixtures("no_collector")


@pytest.fixture(params=["path", "fd"])
def segments(request):
    return request.param


@pytest.fixture
def client(peer, segments):
    with ringbroker.connect(peer.path, timeout=30, segments=segments) as client:
        yield client


@pytest.fixture
def mapped(peer):
    """How many segments are mapped here beside the peer's own mappings, which it keeps."""
    before = count_mappings()
    return lambda: count_mappings() - before - len(peer.segments)


def count_mappings():
    return sum("ringbroker" in line and "rw-s" in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_rings_that_are_closed(client, mapped):
    for _ in range(5):
        with client.open("double") as model:
            model(ROWS)
            with model.acquire(2) as lease:
                lease.infer()
            assert mapped() == 1
        assert mapped() == 0
    with client.open("tokens") as model, model.acquire() as lease:
        lease.shape(seq=3)
        lease.infer()
        assert mapped() == 1
    assert mapped() == 0


def test_rings_of_an_asyncio_client_that_are_closed(peer, segments, mapped):
    async def use():
        async with await aio.connect(peer.path, segments=segments) as client:
            for _ in range(5):
                async with await client.open("tokens") as model:
                    async with model.acquire(2) as lease:
                        lease.shape(seq=3)
                        await lease.infer()
                    assert mapped() == 1
                assert mapped() == 0
            other = await client.open("double")
            await other(ROWS)
            assert mapped() == 1
        assert mapped() == 0

    asyncio.run(use())


def test_models_of_a_client_that_is_closed(client, mapped):
    models = [client.open("double"), client.open("tokens")]
    models[0](ROWS)
    assert mapped() == 2
    client.close()
    assert mapped() == 0


def test_a_lease_keeps_the_memory_until_its_release(client, mapped):
    model = client.open("double")
    lease, dropped = model.acquire(), model.acquire()
    lease.inputs["x"][:] = 3
    model.close()
    del dropped
    assert mapped() == 1
    assert lease.inputs["x"].tolist() == [[3] * 4]
    lease.release()
    assert mapped() == 0


def test_the_last_lease_that_is_dropped_unmaps(client, mapped):
    model = client.open("double")
    lease = model.acquire()
    lease.infer()
    client.close()
    assert mapped() == 1
    del lease
    assert mapped() == 0


def test_a_view_keeps_the_memory(client, mapped):
    with client.open("double") as model, model.acquire() as lease:
        lease.inputs["x"][:] = 3
        view = lease.infer()["y"][0]
    client.close()
    assert mapped() == 1
    assert view.tolist() == [6] * 4
    del view
    assert mapped() == 0


def test_a_ring_that_another_one_follows(peer, client, mapped):
    with client.open("double") as model:
        model(ROWS)
        peer.changed[1] = Code.SIGNATURE_CHANGED
        peer.sessions[0].hang_up()
        client.ping()
        assert mapped() == 0
        assert model(ROWS).tolist() == [[2] * 4]
        assert mapped() == 1


def test_a_lease_whose_answer_comes_after_its_release(peer, client, mapped):
    held = peer.hold()
    with client.open("double") as model, model.acquire() as lease, pytest.raises(ringbroker.Timeout):
        lease.infer(timeout=0)
    assert mapped() == 1
    session, infer = held.get(timeout=30)
    session.fail(infer.id, Code.CANCELLED)
    client.ping()
    assert mapped() == 0


def test_a_ring_that_ends_between_the_grant_and_the_lease(client, mapped, monkeypatch):
    """Rows of a ring without memory make no lease: the next call knows what became of it."""
    model = client.open("double")
    take = model._rings.take

    def take_and_end(*arguments):
        taken = take(*arguments)
        client.close()
        return taken

    monkeypatch.setattr(type(model._rings), "take", lambda rings, *arguments: take_and_end(*arguments))
    with pytest.raises(ringbroker.ClientClosed):
        model.acquire()
    assert mapped() == 0
