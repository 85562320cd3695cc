"""A generation: one set of loaded models, the process that loaded them, and the workers forked from it, as the
supervisor sees them (DESIGN section 7).

A generation never changes. A change is a new one beside it, and this one sent away.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from broker import lifeline
from broker.config import PoolConfig, ServeConfig
from broker.control import (
    Channel,
    Exited,
    Failed,
    Fork,
    Forked,
    Loaded,
    Loading,
    Packet,
    Ready,
    Retire,
    Serving,
    channel_pair,
)
from broker.stats import ALIVE_NS, BUSY_MODEL, BUSY_SINCE_NS, Stats, page_bytes
from broker.worker_handle import LEAST_SILENT_NS, WorkerHandle
from ringbuf.errors import Code, RingbrokerError

log = logging.getLogger("broker.generation")

_LEAST_BACKOFF_NS = 10**8
_MOST_BACKOFF_NS = 5 * 10**9
_FORK_AGAIN_NS = 10**9
_LOADER_END_S = 5.0
# It spares those who are served; 10 spares them no more, and starves a load where others take every CPU
_RELOAD_NICENESS = "5"


class Watcher(Protocol):
    """Calls back when something is readable: the supervisor's loop."""

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `fd` is readable."""

    def unwatch(self, fd: int) -> None:
        """Watch `fd` no more."""


class Events(Protocol):
    """What a generation tells: the supervisor."""

    def ready(self, generation: Generation) -> None:
        """All its models are loaded, and every worker serves."""

    def failed(self, generation: Generation, error: RingbrokerError) -> None:
        """It cannot serve, and is gone."""

    def worker_lost(self, worker: WorkerHandle) -> None:
        """A worker is gone; another is on its way, unless it was sent away."""

    def packet(self, worker: WorkerHandle, packet: Packet) -> None:
        """A worker says that it serves, or something about its sessions."""


class Generation:
    """The supervisor's side of a loader and its workers."""

    def __init__(
        self,
        number: int,
        config: ServeConfig,
        watcher: Watcher,
        events: Events,
        lifeline_fd: int,
        clock_ns: Callable[[], int],
    ) -> None:
        """Start loading; raises `RingbrokerError` LOADER_DIED where no process can be started."""
        self.number = number
        self.config = config
        self.pools = config.all_pools()
        self.loaded: list[Loaded] = []
        self.workers: list[WorkerHandle] = []
        self.past = Stats()
        """What the workers that are gone counted, and how many they are."""
        self.is_ready = False
        self.is_retiring = False
        self.is_orphaned = False
        """Whether its loader is gone, so that it can replace no worker."""
        self._watcher = watcher
        self._events = events
        self._loading: str | None = None
        self._failure: RingbrokerError | None = None
        self._next_worker = 0
        self._untold: dict[int, dict[str, Any]] = {}  # workers whose loss is logged when the loader says how they ended
        self._buried: list[int] = []  # processes of lost workers: those that the loader does not reap are ours to reap
        self._restarts: list[tuple[int, PoolConfig, int]] = []  # when, and which
        self._backoff_ns: dict[tuple[str, int], int] = {}
        self._clock_ns = clock_ns
        self._began_ns = self._ticked_ns = clock_ns()
        self._judge_ns = 0  # when it may be said again that a worker hangs
        self._channel, self._process = self._start(lifeline_fd)
        watcher.watch(self._channel.fileno(), self._hear_loader)

    def _start(self, lifeline_fd: int) -> tuple[Channel, subprocess.Popen[bytes]]:
        try:
            with contextlib.ExitStack() as stack:
                config_fd = os.memfd_create("config")
                stack.callback(os.close, config_fd)
                os.write(config_fd, msgspec.msgpack.encode(self.config))
                channel, far = channel_pair()
                stack.callback(os.close, far)
                on_failure = stack.enter_context(contextlib.ExitStack())
                on_failure.callback(channel.close)
                passed = (far, config_fd, lifeline_fd)
                niceness = "0" if self.number == 1 else _RELOAD_NICENESS
                command = [sys.executable, "-m", "broker.loader_process", *map(str, passed), niceness]
                process = subprocess.Popen(command, pass_fds=passed, stdin=subprocess.DEVNULL, stdout=sys.stderr)
                on_failure.pop_all()
        except OSError as error:
            raise RingbrokerError(Code.LOADER_DIED, f"the loader cannot be started: {error.strerror}") from error
        return channel, process

    # --- what the supervisor asks ---

    @property
    def loader_pid(self) -> int:
        """The loader's process."""
        return self._process.pid

    @property
    def is_over(self) -> bool:
        """Whether it was sent away, and nothing of it is left."""
        return self.is_retiring and not self.workers and not self._buried and self._process.poll() is not None

    def retire(self, reason: str, grace_ms: int) -> None:
        """Send every client away; the workers end when they are gone, and the loader ends now."""
        self.is_retiring = True
        self._restarts.clear()
        self._close_loader()
        for worker in self.workers:
            worker.channel.send(Retire(reason, grace_ms))

    def kill(self) -> None:
        """End everything now."""
        self.is_retiring = True
        self._process.kill()
        for worker in list(self.workers):
            worker.kill()
            self._bury(worker)
        self._close_loader()
        self._process.wait()
        for pid in self._buried:
            with contextlib.suppress(ChildProcessError):  # the loader did so
                os.waitpid(pid, 0)

    def tick(self, now_ns: int) -> None:
        """Replace workers whose time has come, and end those that hang; fail where loading takes too long."""
        if not self.is_ready and now_ns - self._began_ns > self.config.max_load_s * 1e9:
            what = f"still at {self._loading}" if self._loading else "no worker serves yet"
            text = f"the models were not loaded within max_load_s, {self.config.max_load_s:g} s: {what}"
            self._fail(RingbrokerError(Code.LOADER_DIED, text, self._loading))
            return
        for due in [restart for restart in self._restarts if restart[0] <= now_ns]:
            self._restarts.remove(due)
            self._fork(due[1], due[2])
        lifeline.reap(self._buried)
        self._process.poll()  # reaps it, where it was sent away
        self._channel.flush()
        if now_ns - self._ticked_ns > LEAST_SILENT_NS:  # we were stopped, and they with us: they turn first
            self._judge_ns = now_ns + LEAST_SILENT_NS
        self._ticked_ns = now_ns
        limit_ns = int(self.config.max_execution_s * 1e9)
        for worker in list(self.workers):
            worker.channel.flush()
            if not worker.channel.is_open or worker.is_gone():
                self._hear_worker(worker)  # what it said last
                if worker in self.workers:
                    self._lose_worker(worker)
                return  # the others may be gone with it; the next tick is soon
            if now_ns >= self._judge_ns and worker.ended_for is None and worker.is_hanging(now_ns, limit_ns):
                self._end_hanging(worker)

    def _end_hanging(self, worker: WorkerHandle) -> None:
        if worker.pid is not None:
            log.error("a worker hangs, and is ended", extra=self._told(worker))
            worker.kill(Code.EXECUTION_TIMEOUT)
        elif self._process.poll() is None:
            log.error("the loader hangs, and is ended", extra={"generation": self.number})
            self._process.kill()

    # --- what comes from the processes ---

    def _hear_loader(self) -> None:
        for packet, _ in self._channel.receive():
            match packet:
                case Loading(model):
                    self._loading = model
                case Loaded():
                    self.loaded.append(packet)
                case Failed(code, text, path):
                    self._failure = RingbrokerError(code, text, path)
                case Ready():
                    self._loading = None
                    self.past = Stats(models=len(self.loaded))
                    for pool in self.pools:
                        for index in range(pool.workers):
                            self._fork(pool, index)
                case Forked(number, pid):
                    for worker in self._numbered(number):
                        worker.began_ns = self._clock_ns()
                        worker.take_pid(pid)
                case Exited(number, how):
                    self._tell_loss(number, how)
                    for worker in self._numbered(number):
                        worker.how = how
        if not self._channel.is_open:
            self._lose_loader()

    def _numbered(self, number: int) -> list[WorkerHandle]:
        """The worker of that number, unless it is gone."""
        return [worker for worker in self.workers if worker.number == number]

    def _lose_loader(self) -> None:
        self._close_loader()
        try:
            status = self._process.wait(_LOADER_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if self.is_retiring:
            return
        self.is_orphaned = True
        if self.is_ready:
            return
        how = f"exited with {status}" if status >= 0 else f"was ended by {signal.Signals(-status).name}"
        text = f"the loader {how}" + (f" while it loaded {self._loading}" if self._loading else "")
        self._fail(self._failure or RingbrokerError(Code.LOADER_DIED, text, self._loading))

    def _hear_worker(self, worker: WorkerHandle) -> None:
        for packet, descriptors in worker.channel.receive():
            for fd in descriptors:  # none is ever sent this way
                os.close(fd)
            match packet:
                case Serving(pid):
                    worker.take_pid(pid)
                    worker.is_serving = True
                    worker.stats.page[ALIVE_NS] = self._clock_ns()
                    if self.is_ready:
                        log.info("a worker serves", extra=self._told(worker))
                    self._backoff_ns.pop((worker.pool.name, worker.index), None)
                    self._check_ready()
                    self._events.packet(worker, packet)
                case Failed(code, text, path):
                    self._failure = RingbrokerError(code, text, path)
                case Loading():
                    worker.began_ns = None
                case Ready():
                    worker.began_ns = self._clock_ns()
                case _:
                    self._events.packet(worker, packet)
        if not worker.channel.is_open:
            self._lose_worker(worker)

    def _fork(self, pool: PoolConfig, index: int) -> None:
        """Ask the loader for a worker; later, where no descriptor is left."""
        try:
            with contextlib.ExitStack() as stack:
                page_fd = os.memfd_create("counters")
                stack.callback(os.close, page_fd)
                os.ftruncate(page_fd, page_bytes(len(self.loaded)))
                stats = Stats(memory=memoryview(mmap.mmap(page_fd, 0)))
                channel, far = channel_pair()
                stack.callback(os.close, far)
                self._next_worker += 1
                self._channel.send(Fork(self._next_worker, pool.name, index, pool.workers), [far, page_fd])
        except OSError as error:
            log.error("no worker can be forked now", extra={"pool": pool.name, "error": error.strerror})
            self._restarts.append((self._clock_ns() + _FORK_AGAIN_NS, pool, index))
            return
        worker = WorkerHandle(self._next_worker, pool, index, channel, stats, self._clock_ns())
        self.workers.append(worker)
        self._watcher.watch(channel.fileno(), lambda: self._hear_worker(worker))

    def _check_ready(self) -> None:
        wanted = sum(pool.workers for pool in self.pools)
        if not self.is_ready and sum(worker.is_serving for worker in self.workers) == wanted:
            self.is_ready = True
            self._events.ready(self)

    def _lose_worker(self, worker: WorkerHandle) -> None:
        worker.kill()  # where only its channel is gone: its sessions' memory is for another
        if self.is_ready:
            self._note_loss(worker)
        self._bury(worker)
        self._events.worker_lost(worker)
        if self.is_retiring or (self.is_ready and self.is_orphaned):
            return
        if not self.is_ready:
            text = f"a worker of the pool {worker.pool.name} died before it served"
            self._fail(self._failure or RingbrokerError(Code.LOADER_DIED, text))
            return
        place = (worker.pool.name, worker.index)
        wait_ns = 0
        if not worker.is_serving:  # it would die again
            wait_ns = self._backoff_ns[place] = min(
                max(2 * self._backoff_ns.get(place, 0), _LEAST_BACKOFF_NS), _MOST_BACKOFF_NS
            )
        if wait_ns == 0:
            self._fork(worker.pool, worker.index)
        else:
            next_one = {"pool": worker.pool.name, "index": worker.index, "next_in_ms": wait_ns // 10**6}
            log.warning("the next worker is forked later", extra=next_one)
            self._restarts.append((self._clock_ns() + wait_ns, worker.pool, worker.index))

    def _note_loss(self, worker: WorkerHandle) -> None:
        """Count and log it, unless it was sent away and has ended as it should: while it ran nothing."""
        if worker.ended_for == Code.EXECUTION_TIMEOUT:
            self.past.hung_workers[worker.pool.name] += 1
        elif not self.is_retiring or worker.stats.page[BUSY_SINCE_NS]:
            self.past.lost_workers[worker.pool.name] += 1
        else:
            return
        self._untold[worker.number] = self._told(worker)
        if worker.how is not None or worker.pid is None or not self._channel.is_open:  # it says no more
            self._tell_loss(worker.number, worker.how)

    def _tell_loss(self, number: int, how: str | None = None) -> None:
        if (told := self._untold.pop(number, None)) is not None:
            log.warning("a worker was lost", extra=told | {"how": how})

    def _bury(self, worker: WorkerHandle) -> None:
        self.workers.remove(worker)
        self.past.absorb(worker.stats)
        self._watcher.unwatch(worker.channel.fileno())
        worker.close()
        if worker.pid is not None:
            self._buried.append(worker.pid)

    def _fail(self, error: RingbrokerError) -> None:
        self.kill()
        self._events.failed(self, error)

    def _close_loader(self) -> None:
        for number in list(self._untold):
            self._tell_loss(number)
        if self._channel.fileno() >= 0:
            self._watcher.unwatch(self._channel.fileno())
            self._channel.close()

    def _told(self, worker: WorkerHandle) -> dict[str, Any]:
        """What the log says of it: who it is, and which model it runs, or ran when it died."""
        told = {"worker": worker.number, "pid": worker.pid, "pool": worker.pool.name, "index": worker.index}
        told["generation"] = self.number
        page = worker.stats.page
        if page[BUSY_SINCE_NS] and page[BUSY_MODEL] < len(self.loaded):  # a model may write anywhere before it crashes
            ran = self.loaded[page[BUSY_MODEL]]
            told |= {"model": ran.model, "version": ran.version}
        return told
