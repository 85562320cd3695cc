"""The Python client and real brokers whose workers are killed, reloaded, or too slow."""

import asyncio
import contextlib
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import ringbroker
from ringbroker import aio

from tests.conftest import START_TIMEOUT_S, running_broker
from tests.interop.models import SOURCES

SEGMENTS = ["path", "fd"]


@pytest.fixture(params=SEGMENTS)
def segments(request):
    return request.param


@pytest.fixture(scope="module")
def broker():
    with running_broker(f"affine={SOURCES['affine']}", "--workers", "2", "--resume-grace-s", "3600") as broker:
        yield broker


def wait_until(is_so):
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def workers(broker):
    return [worker for pool in broker.status()["pools"].values() for worker in pool["workers"]]


def kill_worker_of(broker):
    """Kill the worker that has the one session, and wait until it is gone; another one takes its place."""
    (pid,) = [worker["pid"] for worker in workers(broker) if worker["sessions"]]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in [worker["pid"] for worker in workers(broker)])


def reload(broker):
    before = broker.status()["generation"]
    os.kill(broker.pid, signal.SIGHUP)
    wait_until(lambda: broker.status()["generation"] > before)


def test_a_killed_worker_leaves_leases_and_data(broker, segments):
    """A request that no worker can have seen is sent again without a word."""
    with connect(broker, segments) as client, client.open("affine", slots=4) as model, model.acquire(rows=3) as lease:
        lease.inputs["x"][:] = np.arange(12).reshape(3, 4)
        lease.infer(timeout=60)  # the broker has read ATTACHED by then
        for _ in range(3):
            kill_worker_of(broker)
            assert np.array_equal(lease.infer(timeout=60)["y"], 3 * np.arange(12).reshape(3, 4) + 1)


def test_all_workers_are_killed(broker):
    """The session waits for the first that is there again."""
    with connect(broker, "path") as client, client.open("affine") as model, model.acquire() as lease:
        lease.inputs["x"][:] = 1
        lease.infer(timeout=60)  # the broker has read ATTACHED by then
        for worker in workers(broker):
            os.kill(worker["pid"], signal.SIGKILL)
        with contextlib.suppress(ringbroker.BrokerLost):  # killed, but not dead yet when it was sent
            lease.infer(timeout=60)
        assert lease.infer(timeout=60)["y"].tolist() == [[4] * 4]


def connect(broker, segments, **options):
    return ringbroker.connect(broker.socket_path, timeout=60, segments=segments, **options)


def kill_while_in_flight(broker, lease):
    """Infer on a worker that is stopped, so that it cannot answer, and kill it then."""

    def kill():
        wait_until(lambda: lease._link.connection.protocol.calls)
        kill_worker_of(broker)

    (pid,) = [worker["pid"] for worker in workers(broker) if worker["sessions"]]
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        killing = threads.submit(kill)
        try:
            return lease.infer(timeout=60)
        finally:
            killing.result()


def test_a_request_in_flight_is_lost_and_may_be_asked_again(broker, segments):
    with connect(broker, segments) as client, client.open("affine") as model, model.acquire() as lease:
        lease.infer(timeout=60)  # the broker has read ATTACHED by then
        lease.inputs["x"][:] = 2
        with pytest.raises(ringbroker.BrokerLost) as caught:
            kill_while_in_flight(broker, lease)
        assert caught.value.is_retryable
        assert lease.infer(timeout=60)["y"].tolist() == [[7] * 4]


def test_a_request_in_flight_is_sent_again(broker, segments):
    with connect(broker, segments, repost=True) as client, client.open("affine") as model, model.acquire() as lease:
        lease.infer(timeout=60)  # the broker has read ATTACHED by then
        lease.inputs["x"][:] = 2
        assert kill_while_in_flight(broker, lease)["y"].tolist() == [[7] * 4]


def test_a_reload_is_invisible(broker, segments):
    """Threads that never stop asking, and a lease that is held all the time, over two generations."""
    is_over = threading.Event()
    asked = []

    def ask(model, number):
        while not is_over.is_set():
            with model.acquire(timeout=60) as lease:
                lease.inputs["x"][:] = number
                asked.append(lease.infer(timeout=60)["y"].tolist() == [[3 * number + 1] * 4])

    with (
        connect(broker, segments, conns=2) as client,
        client.open("affine", slots=4) as model,
        model.acquire() as held,
        ThreadPoolExecutor(4) as threads,
    ):
        held.inputs["x"][:] = 9
        asking = [threads.submit(ask, model, number) for number in range(4)]
        for _ in range(2):
            reload(broker)
            enough = len(asked) + 20
            wait_until(lambda enough=enough: len(asked) > enough or any(one.done() for one in asking))
        is_over.set()
        for one in asking:
            one.result()
        assert held.infer(timeout=60)["y"].tolist() == [[28] * 4]
    assert all(asked)


def test_a_reload_that_an_idle_client_did_not_notice(broker):
    with ringbroker.connect(broker.socket_path, timeout=60) as client, client.open("affine") as model:
        reload(broker)
        assert model(np.ones((1, 4), np.float32), timeout=60).tolist() == [[4] * 4]


def test_asyncio(broker, segments):
    """Tasks that never stop asking, over a killed worker and a reload."""

    async def ask(model, number, is_over):
        count = 0
        while not is_over.is_set():
            async with model.acquire(timeout=60) as lease:
                lease.inputs["x"][:] = number
                assert (await lease.infer(timeout=60))["y"].tolist() == [[3 * number + 1] * 4]
            count += 1
        return count

    async def run():
        path, is_over = broker.socket_path, asyncio.Event()
        async with (
            await aio.connect(path, timeout=60, segments=segments, repost=True) as client,
            await client.open("affine", slots=4) as model,
        ):
            await model(np.ones((1, 4), np.float32))
            asking = [asyncio.create_task(ask(model, number, is_over)) for number in range(6)]
            await asyncio.to_thread(kill_worker_of, broker)
            await model(np.ones((1, 4), np.float32))
            await asyncio.to_thread(reload, broker)
            await model(np.ones((1, 4), np.float32))
            is_over.set()
            assert all(await asyncio.gather(*asking))

    asyncio.run(run())


def wait_until_free(broker):
    """Wait until the broker has no session and no memory; one that it kept for a resume, it would keep for an hour."""
    wait_until(
        lambda: [broker.status()[each] for each in ("open_sessions", "open_rings", "segment_bytes")] == [0, 0, 0]
    )


def has_noticed(connection):
    """Let it read, as the next call would."""
    connection.look()
    return not connection.protocol.is_taking


HAPPENINGS = {"reload": reload, "kill": kill_worker_of}


@pytest.mark.parametrize("happening", HAPPENINGS)
@pytest.mark.parametrize("is_noticed", [False, True])
def test_a_close_frees_the_memory_of_a_session_that_is_to_be_resumed(broker, segments, happening, is_noticed):
    wait_until_free(broker)
    with connect(broker, segments) as client, client.open("affine") as model:
        model(np.ones((1, 4), np.float32), timeout=60)
        HAPPENINGS[happening](broker)
        if is_noticed:
            wait_until(lambda: has_noticed(client._links[0].connection))
            assert broker.status()["segment_bytes"] > 0
    wait_until_free(broker)


def test_a_close_frees_the_memory_of_a_session_that_is_being_resumed(broker, segments):
    """At any time of the resume: while a connection is made, while its WELCOME is waited for, and after it."""

    def go_on(lease):
        with pytest.raises(ringbroker.LifecycleError):
            while True:
                lease.infer(timeout=60)

    for number in range(6):
        with connect(broker, segments) as client, client.open("affine") as model, ThreadPoolExecutor(1) as threads:
            lease = model.acquire()
            lease.infer(timeout=60)  # the broker has read ATTACHED by then
            going_on = threads.submit(go_on, lease)
            HAPPENINGS["kill" if number % 2 else "reload"](broker)
            time.sleep(random.uniform(0, 0.02))
            client.close()
            going_on.result()
        wait_until_free(broker)


@pytest.mark.parametrize("happening", HAPPENINGS)
@pytest.mark.parametrize("is_busy", [False, True])
def test_a_close_of_an_asyncio_client_frees_its_memory(broker, segments, happening, is_busy):
    async def go_on(lease):
        while True:
            await lease.infer(timeout=60)

    async def run():
        async with (
            await aio.connect(broker.socket_path, timeout=60, segments=segments) as client,
            await client.open("affine") as model,
        ):
            await model(np.ones((1, 4), np.float32))
            going_on = asyncio.create_task(go_on(await model.acquire())) if is_busy else None
            await asyncio.to_thread(HAPPENINGS[happening], broker)
            await client.close()
            if going_on is not None:
                with pytest.raises(ringbroker.LifecycleError):
                    await going_on

    wait_until_free(broker)
    asyncio.run(run())
    wait_until_free(broker)


def test_nothing_is_left_of_closed_sessions(broker):
    wait_until(lambda: broker.status()["open_rings"] == 0)
    with ringbroker.connect(broker.socket_path, timeout=60) as client:
        for _ in range(3):
            with client.open("affine") as model:
                kill_worker_of(broker)
                model(np.ones((1, 4), np.float32), timeout=60)
        wait_until(lambda: broker.status()["open_rings"] == 0)
    wait_until_free(broker)
