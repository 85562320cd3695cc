"""The worker on real sockets: what a client that goes away, or a model that fails, does to the rest."""

import gc
import logging
import os

import numpy as np
import pytest

from broker.config import PoolConfig
from broker.control import channel_pair
from broker.worker_handle import WorkerHandle
from ringbuf import segment
from ringbuf.errors import Code
from ringbuf.wire import messages
from ringbuf.wire.messages import encode_frame
from tests.conformance.reference_models import Model
from tests.unit.broker import parts
from tests.unit.broker.parts import load_model


class Refuses:
    """y = x; raises for a batch that has a row of 13s."""

    inputs = {"x": "F32[batch,4]"}
    outputs = {"y": "F32[batch,4]"}
    runs = 0

    def __call__(self, x):
        self.runs += 1
        if (x == 13).any():
            raise ArithmeticError("thirteen")
        return x.clone()


def refuses():
    return Refuses()


CLOCK = parts.Clock()
RUN_NS = 40 * 10**9


class Takes(Refuses):
    """As `Refuses`, and takes 40 s of `CLOCK`."""

    def __call__(self, x):
        CLOCK.ns += RUN_NS
        return super().__call__(x)


def takes():
    return Takes()


def exits():
    """A model that wants to end the process."""

    def leave(x):
        if (x == 13).any():
            raise SystemExit(3)
        return x

    return Model(leave, {"x": "F32[batch,4]"}, {"y": "F32[batch,4]"})


@pytest.fixture(scope="module")
def fragile_catalog():
    names = enumerate(("refuses", "exits"))
    return parts.catalog_of(load_model(f"{__name__}:{name}", name, number, max_batch=8) for number, name in names)


@pytest.fixture
def works(catalog, store):
    works = parts.Works(catalog, store)
    yield works
    works.close()


@pytest.fixture
def fragile(fragile_catalog, store):
    works = parts.Works(fragile_catalog, store)
    yield works
    works.close()


class Client:
    """The far end of a session: blocking, and the worker runs only when told to."""

    def __init__(self, works):
        self.works = works
        self.sock, self.session = works.connect()
        self.reader = parts.FrameReader()
        self.inbox = []
        assert isinstance(self.receive(), messages.Welcome)

    def send(self, *spoken):
        self.sock.sendall(b"".join(map(encode_frame, spoken)))

    def receive(self):
        while not self.inbox:
            data = self.sock.recv(65536)
            assert data, "the broker closed the connection"
            self.inbox += map(parts.decode_broker, self.reader.feed(data))
        return self.inbox.pop(0)

    def open(self, model):
        self.send(parts.open_message(900, model))
        self.works.loop.poll(None)
        ring = self.receive()
        self.memory = segment.attach(ring.segment.path, ring.segment.bytes)
        self.send(messages.Attached(ring.ring, 0))
        self.works.loop.poll(None)
        return ring

    def plane(self, ring, name):
        plane = next(plane for plane in ring.planes if plane.name == name)
        return np.frombuffer(self.memory.buffer, np.float32, ring.slots * 4, plane.offset).reshape(ring.slots, 4)


def run_once(works, between=lambda: None):
    """Let the worker read what was sent, do `between`, and run one batch."""
    wake = os.eventfd(1, os.EFD_NONBLOCK)  # ready after everything that was sent before

    def stop():
        between()
        works.worker.is_stopping = True

    works.loop.watch(wake, stop)
    works.worker.is_stopping = False
    try:
        works.worker.run()
    finally:
        os.close(wake)


def run_until_idle(works):
    """Let the worker read what was sent, and run every batch."""
    run_once(works)
    while works.context.batcher.has_waiting:
        run_once(works)


@pytest.fixture(autouse=True)
def garbage_collector():
    """A worker tunes the collector of its process, which here is the tests'."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_rows_come_back_computed(works):
    client = Client(works)
    ring = client.open("twice")
    client.plane(ring, "x")[:3] = np.arange(12).reshape(3, 4)
    client.send(*(parts.infer(ring, number, slot=number) for number in range(3)))
    run_until_idle(works)
    results = [client.receive() for _ in range(3)]
    assert [(r.id, r.batch_rows, r.last) for r in results] == [(0, 3, True), (1, 3, True), (2, 3, True)]
    assert (client.plane(ring, "y")[:3] == 2 * np.arange(12).reshape(3, 4)).all()
    assert works.context.stats.of_model(0).batches == 1


def test_a_failed_batch_is_run_again_row_by_row(fragile):
    client = Client(fragile)
    ring = client.open("refuses")
    client.plane(ring, "x")[1] = 13
    client.send(*(parts.infer(ring, number, slot=number) for number in range(3)))
    run_until_idle(fragile)
    first, second, third = (client.receive() for _ in range(3))
    assert isinstance(first, messages.Result)
    assert isinstance(third, messages.Result)
    assert (second.code, second.text) == (Code.MODEL_FAILED, "the model raised ArithmeticError")
    client.send(parts.infer(ring, 7, slot=0, rows=3))
    run_until_idle(fragile)
    assert client.receive().code == Code.MODEL_FAILED  # one request of three rows is one request


class Supervision(logging.Handler):
    """Looks whether a worker seems to hang, as its supervisor does: whenever it logs, between two runs, and after."""

    def __init__(self, works):
        super().__init__()
        channel, self._far = channel_pair()
        self._worker = WorkerHandle(1, PoolConfig("default"), 0, channel, works.context.stats, 0)
        self._worker.is_serving = True
        self.seen = []

    def emit(self, record):
        self.look()

    def look(self):
        self.seen.append(self._worker.is_hanging(CLOCK(), RUN_NS + 1))

    def close(self):
        super().close()
        self._worker.close()
        os.close(self._far)


@pytest.mark.parametrize(("slots_of_13s", "looks"), [((), 1), ((0, 1, 2), 4)], ids=["answered", "failed"])
def test_a_worker_that_takes_long_for_several_runs_does_not_hang(store, slots_of_13s, looks):
    """Not between the runs of a batch that failed, nor idle after it, however long ago its loop turned."""
    catalog = parts.catalog_of([load_model(f"{__name__}:takes", "takes", max_batch=8)])
    works = parts.Works(catalog, store, clock=CLOCK)
    supervision = Supervision(works)
    log = logging.getLogger("broker.worker")
    log.addHandler(supervision)
    try:
        client = Client(works)
        ring = client.open("takes")
        client.plane(ring, "x")[list(slots_of_13s)] = 13
        client.send(*(parts.infer(ring, number, slot=number) for number in range(3)))
        CLOCK.ns += 10**8  # since the loop last ticked, and it does not again before the run
        run_once(works)
        supervision.look()
        assert supervision.seen == [False] * looks
    finally:
        log.removeHandler(supervision)
        supervision.close()
        works.close()


def test_a_model_that_exits_ends_nothing(fragile):
    client = Client(fragile)
    ring = client.open("exits")
    client.plane(ring, "x")[0] = 13
    client.send(parts.infer(ring, 1))
    run_until_idle(fragile)
    assert client.receive().text == "the model raised SystemExit"
    client.plane(ring, "x")[0] = 0
    client.send(parts.infer(ring, 2))
    run_until_idle(fragile)
    assert isinstance(client.receive(), messages.Result)


def test_a_deadline_that_passed_is_answered_and_not_run(works):
    client = Client(works)
    ring = client.open("twice")
    works.clock.ns = 100
    client.send(parts.infer(ring, 1, deadline_ns=100), parts.infer(ring, 2, slot=1, deadline_ns=101))
    run_until_idle(works)
    answers = {answer.id: answer for answer in (client.receive(), client.receive())}
    assert answers[1].code == Code.DEADLINE_EXCEEDED
    assert isinstance(answers[2], messages.Result)


def test_a_client_that_goes_with_several_requests_too_late(works):
    client = Client(works)
    ring = client.open("twice")
    works.clock.ns = 100
    client.send(*(parts.infer(ring, number, slot=number, deadline_ns=1) for number in range(3)))
    run_once(works, between=client.sock.close)
    assert not works.loop.connections
    other_still_served(works)


def test_a_client_that_goes_with_one_too_late_and_one_in_the_batch(works):
    client = Client(works)
    ring = client.open("twice")
    works.clock.ns = 100
    client.send(parts.infer(ring, 1, deadline_ns=1), parts.infer(ring, 2, slot=1))
    run_once(works, between=client.sock.close)
    assert not works.loop.connections
    other_still_served(works)


def test_a_client_that_goes_while_its_failed_batch_is_run_again(fragile):
    client = Client(fragile)
    ring = client.open("refuses")
    client.plane(ring, "x")[:3] = 13
    client.send(*(parts.infer(ring, number, slot=number) for number in range(3)))
    run_once(fragile, between=client.sock.close)
    assert not fragile.loop.connections


def other_still_served(works):
    client = Client(works)
    ring = client.open("twice")
    client.send(parts.infer(ring, 1))
    run_until_idle(works)
    assert isinstance(client.receive(), messages.Result)
    client.sock.close()
    works.loop.poll(None)
