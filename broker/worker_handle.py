"""A worker as its generation sees it: a process, a channel, and a page of counters; whether it lives, and its end."""

from __future__ import annotations

import contextlib
import os
import select
import signal

from broker.config import PoolConfig
from broker.control import Channel
from broker.loop import TICK_NS
from broker.stats import ALIVE_NS, BUSY_SINCE_NS, Stats

_WARM_UP_NS = 60 * 10**9
# An idle worker turns its loop once a tick, whatever the limit of a batch is: a busy host may cost it two, but not ten
LEAST_SILENT_NS = 3 * TICK_NS
_MOST_SILENT_NS = 10 * TICK_NS


class WorkerHandle:
    """One worker process."""

    def __init__(self, number: int, pool: PoolConfig, index: int, channel: Channel, stats: Stats, now_ns: int) -> None:
        self.number = number
        self.pool = pool
        self.index = index
        """Its place in its pool, from 0."""
        self.channel = channel
        self.stats = stats
        self.began_ns: int | None = now_ns
        """When it was asked for, forked, or had loaded its models; None while it loads them."""
        self.is_serving = False
        self.pid: int | None = None
        self.ended_for: int | None = None
        """The code that its requests end in, where we ended it."""
        self.how: str | None = None
        """How its process ended, in the loader's words."""
        self._pidfd: int | None = None

    def take_pid(self, pid: int) -> None:
        """Learn who it is; it tells itself, and so does its loader."""
        if self.pid is None:
            self.pid = pid
            with contextlib.suppress(OSError):  # gone already, or no descriptor is left
                self._open()

    def _open(self) -> int | None:
        """The descriptor of its process, None while nobody knows which that is; raises OSError."""
        if self._pidfd is None and self.pid is not None:
            self._pidfd = os.pidfd_open(self.pid)
        return self._pidfd

    def is_gone(self) -> bool:
        """Whether its process has ended. Its channel may be open still, where that left a process of its own."""
        try:
            pidfd = self._open()
        except ProcessLookupError:
            return True
        except OSError:  # no descriptor is left
            return False
        if pidfd is None:
            return False
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        return bool(poller.poll(0))

    def is_hanging(self, now_ns: int, limit_ns: int) -> bool:
        """Whether its batch takes longer than `limit_ns`, or it is idle and its loop does not turn."""
        if not self.is_serving:
            return self.began_ns is not None and now_ns - self.began_ns > _WARM_UP_NS
        if busy_since_ns := self.stats.page[BUSY_SINCE_NS]:
            return now_ns - busy_since_ns > limit_ns
        return now_ns - self.stats.page[ALIVE_NS] > max(min(limit_ns, _MOST_SILENT_NS), LEAST_SILENT_NS)

    def kill(self, code: int | None = None) -> None:
        """End it now, if it is not gone; its requests end in `code`, or are lost."""
        with contextlib.suppress(OSError):
            if (pidfd := self._open()) is not None:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                self.ended_for = code or self.ended_for

    def close(self) -> None:
        """Let go of what we hold of it, also where somebody still knows it."""
        self.channel.close()
        self.stats = Stats()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
