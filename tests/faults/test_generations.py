"""A generation's real processes, by a clock that is moved: which of them hang, and which only take long."""

import os
import signal
import time
from contextlib import contextmanager

from broker import lifeline
from broker.config import ServeConfig
from broker.engine.config import ModelConfig
from broker.generation import Generation
from broker.loop import Loop
from broker.stats import BUSY_MODEL, BUSY_SINCE_NS
from ringbuf.errors import Code
from tests.faults import strays, traps
from tests.faults.signals import is_alive, kill
from tests.faults.traps import Trap
from tests.faults.wire import until

HOUR_NS = 3600 * 10**9


class Host:
    """What a generation needs of a supervisor; it writes down what it is told."""

    def __init__(self):
        self.ahead_ns = 0
        self.told = []
        self.loop = Loop(0, self.now_ns)

    def now_ns(self):
        return time.monotonic_ns() + self.ahead_ns

    def ready(self, _generation):
        self.told.append("ready")

    def failed(self, _generation, error):
        self.told.append(error)

    def worker_lost(self, worker):
        self.told.append(worker.pid)

    def packet(self, worker, packet):
        pass


@contextmanager
def begun(factory, folder, max_load_s=600.0):
    """A host and its generation, of one model and one worker."""
    host = Host()
    ends = lifeline.make()
    source = f"{factory.__module__}:{factory.__name__}"
    model = ModelConfig(name="m", source=source, arguments={"folder": str(folder)})
    config = ServeConfig(models=(model,), socket_path="", max_load_s=max_load_s)
    generation = Generation(1, config, host.loop, host, ends[0], host.now_ns)
    try:
        yield host, generation
    finally:
        Trap(folder).release()
        generation.kill()
        host.loop.close_all()
        for fd in ends:
            os.close(fd)


def turn(host, generation):
    """As the supervisor does, without its waiting."""
    host.loop.poll(0)
    generation.tick(host.now_ns())


def turn_until(host, generation, is_true):
    until(lambda: turn(host, generation) or is_true())


def test_a_worker_that_loads_for_itself_takes_its_time(tmp_path):
    trap = Trap(tmp_path)
    with begun(strays.alone, tmp_path, max_load_s=24 * 3600) as (host, generation):
        turn_until(host, generation, lambda: trap.pids)
        for _ in range(2):
            turn(host, generation)  # that it loads has been heard
            host.ahead_ns += HOUR_NS
        trap.release()
        turn_until(host, generation, lambda: host.told)
        assert host.told == ["ready"]
        assert [worker.pid for worker in generation.workers] == trap.pids


def test_a_model_that_writes_over_its_workers_page_and_crashes(tmp_path):
    """What the log says of it is wrong, and nothing else is."""
    Trap(tmp_path).release()
    with begun(strays.unforkable, tmp_path) as (host, generation):
        turn_until(host, generation, lambda: host.told)
        (worker,) = generation.workers
        worker.stats.page[BUSY_SINCE_NS] = worker.stats.page[BUSY_MODEL] = 2**64 - 1
        pid = worker.pid
        kill(pid)
        turn_until(host, generation, lambda: host.told == ["ready", pid])
        turn_until(host, generation, lambda: [each.is_serving for each in generation.workers] == [True])


def test_a_model_that_hangs_while_it_is_loaded(tmp_path):
    """It would hold up every reload after it."""
    trap = Trap(tmp_path)
    with begun(traps.loading, tmp_path) as (host, generation):
        turn_until(host, generation, lambda: trap.pids)
        turn(host, generation)
        assert not host.told
        host.ahead_ns += HOUR_NS
        turn(host, generation)
        (error,) = host.told
        assert (error.code, error.path) == (Code.LOADER_DIED, "m")
        assert "max_load_s" in error.text
        assert not is_alive(generation.loader_pid)


def test_a_broker_that_was_stopped_as_a_whole_lets_its_workers_turn_first(tmp_path):
    """As by a container that is paused. Here the worker's clock stays behind, so that it is ended later."""
    Trap(tmp_path).release()
    with begun(strays.unforkable, tmp_path) as (host, generation):
        turn_until(host, generation, lambda: host.told)
        (worker,) = generation.workers
        host.ahead_ns += HOUR_NS
        turn(host, generation)
        assert worker.ended_for is None
        turn_until(host, generation, lambda: worker.ended_for == Code.EXECUTION_TIMEOUT)


def test_a_loader_that_stays_stopped_is_ended(tmp_path):
    """When a worker is wanted of it; its generation is to be replaced then."""
    Trap(tmp_path).release()
    with begun(strays.unforkable, tmp_path) as (host, generation):
        turn_until(host, generation, lambda: host.told)
        kill(generation.loader_pid, signal.SIGSTOP)
        kill(generation.workers[0].pid)
        turn_until(host, generation, lambda: len(host.told) == 2)
        turn(host, generation)
        assert not generation.is_orphaned
        host.ahead_ns += HOUR_NS
        turn_until(host, generation, lambda: generation.is_orphaned)
        assert not is_alive(generation.loader_pid)
