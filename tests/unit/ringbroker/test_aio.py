"""The asyncio client against a peer: what it shares with the blocking one, and what tasks and cancellation add."""

import asyncio
import gc
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
import ringbroker
from ringbroker import aio

from ringbuf.errors import Code
from ringbuf.wire import messages
from tests.unit.ringbroker.peer import TOKENS, WAIT_S, Session

ONES = np.ones((1, 4))


def runs(test):
    """Run an async test in an event loop of its own."""

    @wraps(test)
    def run(**fixtures):
        asyncio.run(asyncio.wait_for(test(**fixtures), 2 * WAIT_S))

    return run


async def until(is_so):
    while not is_so():
        await asyncio.sleep(0.001)


async def get(held):
    """What the peer has received."""
    return await asyncio.to_thread(held.get, timeout=WAIT_S)


@asynccontextmanager
async def opened(peer, name="double", slots=8, **options):
    async with (
        await aio.connect(peer.path, timeout=WAIT_S, **options) as client,
        await client.open(name, slots=slots) as model,
    ):
        yield model


def filled(lease, value=3):
    lease.inputs["x"][:] = value
    return lease


async def values(awaitable):
    return (await awaitable)["y"].tolist()


def lose_once(peer):
    def hang_up(session, infer):
        peer.on[messages.Infer] = Session.answer
        session.hang_up()

    peer.on[messages.Infer] = hang_up


@pytest.mark.parametrize("segments", ["path", "fd"])
def test_infer_in_shared_memory(peer, segments):
    @runs
    async def run():
        async with opened(peer, segments=segments) as model:
            async with model.acquire(2) as lease:
                lease.inputs["x"][:] = [[1, 2, 3, 4], [5, 6, 7, 8]]
                result = await lease.infer(timeout=WAIT_S, version="2", trace="who")
                assert result["y"].tolist() == [[2, 4, 6, 8], [10, 12, 14, 16]]
                assert (result.version, lease.rows, lease.slot) == ("2", 2, 0)
            lease = await model.acquire()
            lease.release()
            with pytest.raises(ringbroker.LeaseReleased):
                lease.release()
            assert (await model(ONES)).tolist() == [[2] * 4]
            assert (model.slots, model.max_rows, list(model.inputs)) == (8, 8, ["x"])

    run()


def test_client(peer):
    @runs
    async def run():
        async with await aio.connect(peer.path, name="me") as client:
            assert [model.name for model in await client.models()] == ["double", "tokens"]
            assert await client.ping() > 0
            with pytest.raises(ringbroker.UnknownModel):
                await client.open("nobody")
            async with await client.open("tokens") as model, model.acquire() as lease:
                lease.shape(seq=3)["tokens"][:] = [1, 2, 3]
                lease.inputs["mask"][:] = True
                assert (await lease.infer())["score"].tolist() == [6]
        for use in (client.models, client.ping, lambda: client.open("double")):
            with pytest.raises(ringbroker.ClientClosed):
                await use()

    run()
    assert peer.sessions[0].got(messages.Hello)[0].client.name == "me"


def test_many_tasks_get_their_own_answers(peer):
    @runs
    async def run():
        async def ask(model, number):
            for _ in range(20):
                async with model.acquire() as lease:
                    assert await values(filled(lease, number).infer(timeout=WAIT_S)) == [[2 * number] * 4]

        async with opened(peer, slots=3, conns=2) as model:
            await asyncio.gather(*(ask(model, number) for number in range(12)))
            assert [ring.load for ring in model._rings.all] == [0, 0]

    run()
    assert all(session.got(messages.Infer) for session in peer.sessions)


def test_cancelled_task_leaves_its_rows_taken_until_the_answer(peer):
    @runs
    async def run():
        async with opened(peer, slots=1) as model:
            held = peer.hold()
            lease = await model.acquire()
            asking = asyncio.create_task(lease.infer())
            session, infer = await get(held)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            for use in (lambda: lease.inputs, lease.shape):
                with pytest.raises(ringbroker.LeaseBusy):
                    use()
            lease.release()
            with pytest.raises(ringbroker.AcquireTimeout):
                await model.acquire(timeout=0.01)
            await until(lambda: session.got(messages.Cancel))
            assert session.got(messages.Cancel)[0].id == infer.id
            session.fail(infer.id, Code.CANCELLED)
            peer.on[messages.Infer] = Session.answer
            async with model.acquire(timeout=WAIT_S) as again:
                assert await values(filled(again).infer()) == [[6] * 4]

    run()


def test_timeout(peer):
    @runs
    async def run():
        async with opened(peer, slots=1) as model:
            held = peer.hold()
            async with model.acquire() as lease:
                with pytest.raises(ringbroker.Timeout):
                    await filled(lease).infer(timeout=0.01)
                with pytest.raises(ringbroker.LeaseBusy):
                    await lease.infer()
                session, infer = await get(held)
                session.answer(infer)
                await until(lambda: not lease._is_busy)
                peer.on[messages.Infer] = Session.answer
                assert await values(lease.infer()) == [[6] * 4]

    run()


def test_rows_are_given_in_order_and_to_no_task_that_gave_up(peer):
    @runs
    async def run():
        async with opened(peer, slots=4) as model:
            lease = await model.acquire(4)
            gone, first, second = (asyncio.create_task(model._lease(4, None)) for _ in range(3))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gone.cancel()
            lease.release()
            (await first).release()
            (await second).release()
            with pytest.raises(asyncio.CancelledError):
                await gone
            assert model._rings.all[0].load == 0
            with pytest.raises(ringbroker.TooManyRows):
                await model.acquire(5)

    run()


def test_task_that_is_cancelled_just_as_it_gets_rows(peer):
    @runs
    async def run():
        async with opened(peer, slots=1) as model:
            lease = await model.acquire()
            waiting = asyncio.create_task(model._lease(1, None))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            lease.release()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            (await model.acquire(timeout=0)).release()

    run()


@pytest.mark.parametrize("repost", [False, True])
def test_lost_connection(peer, repost):
    @runs
    async def run():
        async with opened(peer, repost=repost) as model, model.acquire() as lease:
            filled(lease)
            lose_once(peer)
            if not repost:
                with pytest.raises(ringbroker.BrokerLost):
                    await lease.infer()
            assert await values(lease.infer()) == [[6] * 4]
            peer.sessions[-1].hang_up()
            assert await values(lease.infer()) == [[6] * 4]  # the broker cannot have seen it before

    run()
    assert len(peer.sessions[0].got(messages.Open)) == 1
    assert not any(session.got(messages.Open) for session in peer.sessions[1:])


def test_repost_is_bounded_and_never_of_a_stateful_model(peer):
    @runs
    async def run(expected):
        before = sum(len(session.got(messages.Infer)) for session in peer.sessions)
        peer.on[messages.Infer] = lambda session, infer: session.hang_up()
        async with opened(peer, repost=True) as model, model.acquire() as lease:
            with pytest.raises(ringbroker.BrokerLost):
                await lease.infer()
        assert sum(len(session.got(messages.Infer)) for session in peer.sessions) == before + expected

    run(expected=3)
    peer.ring_options = messages.RingOptions(True)
    run(expected=1)


def test_why_the_worker_was_ended(peer):
    @runs
    async def run():
        peer.lost = Code.EXECUTION_TIMEOUT
        async with opened(peer, repost=True) as model, model.acquire() as lease:
            lose_once(peer)
            with pytest.raises(ringbroker.ExecutionTimeout):
                await lease.infer()

    run()


def test_goaway_is_invisible(peer):
    @runs
    async def run():
        async with opened(peer) as model:
            held = peer.hold()
            first = filled(await model.acquire())
            asking = asyncio.create_task(values(first.infer()))
            old, infer = await get(held)
            peer.on[messages.Infer] = Session.answer
            old.go_away()
            await until(lambda: not first._link.connection.protocol.is_taking)
            later = asyncio.create_task(model(ONES))
            old.answer(infer)
            assert await asking == [[6] * 4]
            assert (await later).tolist() == [[2] * 4]
            assert await values(first.infer()) == [[6] * 4]

    run()
    assert len(peer.sessions[0].got(messages.Infer)) == 1
    assert len(peer.sessions) == 2


def test_changed_signature_and_refused_token(peer):
    @runs
    async def run():
        async with opened(peer) as model:
            lease = await model.acquire()
            peer.changed[1] = Code.SIGNATURE_CHANGED
            peer.models["double"] = TOKENS
            peer.sessions[0].hang_up()
            with pytest.raises(ringbroker.SignatureChanged):
                await lease.infer()
            async with model.acquire() as other:
                assert list(other.inputs) == ["tokens", "mask"]
                peer.restart()
                with pytest.raises(ringbroker.BrokerLost):
                    await other.infer()
            async with model.acquire() as third:
                assert (await third.infer())["score"].tolist() == [0]

    run()


def test_task_that_is_cancelled_while_it_connects_leaves_the_session(peer):
    @runs
    async def run():
        async with opened(peer) as model, model.acquire() as lease:
            held = peer.hold(messages.Hello)
            peer.sessions[0].hang_up()
            asking = asyncio.create_task(filled(lease).infer())
            session, hello = await get(held)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            session.welcome(hello)
            assert await values(lease.infer()) == [[6] * 4]

    run()
    assert len(peer.sessions) == 2


def test_welcome_that_comes_late_is_waited_for_by_the_next_call(peer):
    @runs
    async def run():
        async with opened(peer) as model, model.acquire() as lease:
            held = peer.hold(messages.Hello)
            peer.sessions[0].hang_up()
            for _ in range(2):
                with pytest.raises(ringbroker.Timeout):
                    await filled(lease).infer(timeout=0.02)
            session, hello = await get(held)
            session.welcome(hello)
            assert await values(lease.infer()) == [[6] * 4]

    run()
    assert len(peer.sessions) == 2


def test_broker_that_is_not_there(tmp_path):
    @runs
    async def run():
        with pytest.raises(ringbroker.BrokerLost):
            await aio.connect(tmp_path / "none.sock", timeout=0.01)

    run()


def test_pools(peer):
    @runs
    async def run():
        peer.pools["tokens"] = "large"
        async with await aio.connect(peer.path) as client, await client.open("double") as model:
            await client.open("tokens")
            assert (await model(ONES)).tolist() == [[2] * 4]

    run()
    assert [session.got(messages.Hello)[0].options.pool for session in peer.sessions] == [None, "large"]


def test_close_tells_everybody(peer):
    @runs
    async def run():
        client = await aio.connect(peer.path)
        model = await client.open("double", slots=1)
        held = peer.hold()
        lease = await model.acquire()
        asking = asyncio.create_task(lease.infer())
        await get(held)
        waiting = asyncio.create_task(model._lease(1, None))
        await asyncio.sleep(0)
        await client.close()
        await client.close()
        for one in (asking, waiting):
            with pytest.raises(ringbroker.ClientClosed):
                await one
        with pytest.raises(ringbroker.ClientClosed):
            await model.acquire()
        lease.release()

    run()


def test_a_close_is_heard_while_a_forked_child_has_the_socket(peer):
    @runs
    async def run():
        client = await aio.connect(peer.path)
        with client._links[0].connection._socket.dup():  # as a fork copies it
            await client.close()
            await until(lambda: peer.sessions[0].socket.fileno() < 0)

    run()


def test_broken_answers(peer):
    @runs
    async def run():
        async with opened(peer) as model, model.acquire() as lease:
            peer.on[messages.Infer] = lambda session, infer: session.send(messages.Closed(infer.id, 1))
            with pytest.raises(ringbroker.BadAnswer):
                await lease.infer()
            with pytest.raises(ringbroker.BrokerLost):  # the session ended with the connection
                await lease.infer()

    run()


def test_broker_that_reads_only_when_it_is_read(peer):
    """More requests than the socket takes are sent as it takes them."""

    @runs
    async def run():
        async with opened(peer) as model:
            connection = model._rings.all[0].link.connection
            asking = [
                asyncio.create_task(connection.ask(messages.Ping, messages.Pong, None, lambda _: None))
                for _ in range(20_000)
            ]
            await asyncio.gather(*asking)
            assert connection.protocol.calls == {}

    run()


def test_nothing_is_left(peer):
    def count():
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir())) - sum(s.socket.fileno() >= 0 for s in peer.sessions)

    @runs
    async def run():
        async with opened(peer, segments="fd") as model:
            await model(ONES)

    run()
    before = count() - 2 * len(peer.segments)
    run()
    assert count() - 2 * len(peer.segments) == before
