"""The loader: reads a generation's models and forks its workers (DESIGN section 7).

It loads and tries every model with one thread, because a thread pool that was started before a fork hangs the child.
Then it proves that its forks can run them with several: it forks one that does. What it has loaded is never changed
again, so its workers share it.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
from collections.abc import Sequence

from broker import lifeline
from broker.catalog import Catalog
from broker.config import PoolConfig, ServeConfig
from broker.control import Channel, Exited, Failed, Fork, Forked, Loaded, Loading, Ready, socket_of
from broker.engine import models
from broker.engine.models import Model
from broker.engine.repository import versions_of
from broker.engine.signature import written
from broker.worker_process import work
from ringbuf.errors import RingbrokerError

logger = logging.getLogger("broker.loader")

_PROOF_S = 5.0  # for each model; a child that hangs does so for ever
_SEND_AGAIN_S = 0.1


class Loader:
    """One generation's loader."""

    def __init__(self, channel: Channel, config: ServeConfig, lifeline_fd: int) -> None:
        self.channel = channel
        self._config = config
        self._lifeline_fd = lifeline_fd
        self._pools = {pool.name: pool for pool in config.all_pools()}
        self._workers: dict[int, int] = {}  # by process id
        os.register_at_fork(after_in_child=channel.close)  # or nobody would see our end while a fork of ours lives

    def prepare(self) -> Catalog | None:
        """Load all models, and say so; None where forks of this process cannot run them. Raises `RingbrokerError`."""
        loaded = self._load(self.channel, threads=1)
        for model in loaded:
            self.channel.send(_told(model))
        catalog = self._catalog_of([model.without_plan() for model in loaded])
        gc.collect()
        gc.freeze()  # the models never become garbage, and a collection would copy every page that holds an object
        is_sound = forks_can_run(catalog, self._config.all_pools(), _PROOF_S * len(self._config.models))
        return catalog if is_sound else None

    def _load(self, channel: Channel, threads: int) -> list[Model]:
        loaded: list[Model] = []
        for config in self._config.models:
            channel.send(Loading(config.name))
            for version in versions_of(config):
                loaded.append(models.load(version, threads=threads, number=len(loaded)))
        return loaded

    def _catalog_of(self, loaded: Sequence[Model]) -> Catalog:
        """A catalog of these models, in their pools."""
        return Catalog(loaded, {model: pool.name for pool in self._pools.values() for model in pool.models})

    def run(self, catalog: Catalog | None) -> None:
        """Fork workers when asked, until the supervisor closes the channel; without a catalog, each worker loads."""
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.channel.send(Ready())
        while self.channel.is_open:
            _wait_for(self.channel.fileno(), wake, limit_s=_SEND_AGAIN_S if self.channel.has_unsent else None)
            self.channel.flush()
            for packet, descriptors in self.channel.receive():
                if isinstance(packet, Fork):
                    self._fork(packet, descriptors, catalog)
            self._reap(wake)

    def _fork(self, fork: Fork, descriptors: list[int], catalog: Catalog | None) -> None:
        try:
            pid = os.fork()
            if pid == 0:
                self._become_worker(fork, descriptors, catalog)
            self._workers[pid] = fork.worker
            self.channel.send(Forked(fork.worker, pid))
        except OSError as error:  # no process or memory is left; the supervisor sees the channel's end, and asks again
            logger.error("no worker can be forked", extra={"pool": fork.pool, "error": error.strerror})
        finally:
            for fd in descriptors:
                os.close(fd)

    def _become_worker(self, fork: Fork, descriptors: list[int], catalog: Catalog | None) -> None:
        """In the child: serve, and never return."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            lifeline.hold(self._lifeline_fd)
            channel = Channel(socket_of(descriptors[0]))
            try:
                if catalog is None:
                    catalog = self._catalog_of(self._load(channel, self._pools[fork.pool].threads or 1))
                    channel.send(Ready())
                work(self._config, self._pools[fork.pool], catalog, fork, channel, descriptors[1])
                status = 0
            except RingbrokerError as error:
                channel.send(Failed.of(error))
        except MemoryError:
            logger.error("a worker has no memory left, and ends")
        except BaseException:
            logger.exception("a worker ended by a bug")
        finally:
            os._exit(status)

    def _reap(self, wake: int) -> None:
        while _wait_for(wake, limit_s=0):
            os.read(wake, 4096)
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            worker = self._workers.pop(pid, None)
            if worker is not None:  # or a model's child
                self.channel.send(Exited(worker, how_ended(status)))


def _wait_for(*readable: int, limit_s: float | None = None) -> bool:
    """Wait until one of these is readable; by `poll`, because the supervisor's descriptors may be beyond 1024."""
    poller = select.poll()
    for fd in readable:
        poller.register(fd, select.POLLIN)
    return bool(poller.poll(None if limit_s is None else limit_s * 1000))


def how_ended(status: int) -> str:
    """What `waitpid` said, in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exited with {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"


def forks_can_run(catalog: Catalog, pools: Sequence[PoolConfig], limit_s: float) -> bool:
    """Whether a forked child can bind and run every model with several threads, tried in one that is thrown away."""
    loader, pid = os.getpid(), os.fork()
    if pid == 0:
        try:
            lifeline.end_with(loader)
            threads = max(2, *(pool.threads or 1 for pool in pools))
            for model in catalog.models():
                model.bound(threads)
            os._exit(0)
        except BaseException:
            logger.exception("a model cannot be run in a forked process")
        finally:
            os._exit(1)
    pidfd = os.pidfd_open(pid)
    has_ended = _wait_for(pidfd, limit_s=limit_s)
    os.close(pidfd)
    if not has_ended:
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1] == 0


def _told(model: Model) -> Loaded:
    signature = model.signature
    ins, outs = ({tensor.name: written(tensor) for tensor in side} for side in (signature.inputs, signature.outputs))
    canary = model.config.canary if model.config.is_candidate else None
    return Loaded(model.name, model.version, model.config.source, ins, outs, canary.percent if canary else None)
