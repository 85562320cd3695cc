"""Reloads: who asked for one, and what became of the last. One is on its way at a time; who asks meanwhile gets the
next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from broker.admin import AdminPeer
from broker.loop import Loop
from broker.notify import Notifier
from ringbuf.errors import Code, RingbrokerError, name_of

log = logging.getLogger("broker.reloads")

_REFUSED = {"error": "BROKER_LOST: the broker is stopping, and loads nothing more", "code": Code.BROKER_LOST}


class Reloads:
    """Remembers who asks, begins a reload, and tells what came of it."""

    def __init__(
        self,
        load: Callable[[], None],
        loop: Loop,
        notifier: Notifier,
        clock_ns: Callable[[], int],
        unix_s: Callable[[], float],
    ) -> None:
        """`load` begins to load what the configuration says now; it raises `RingbrokerError` where that is wrong."""
        self.is_due = False
        """Whether one was asked for that has not begun."""
        self.last: dict[str, Any] | None = None
        """What became of the last, for `broker status`."""
        self._is_running = False
        self._is_stopping = False
        self._load = load
        self._loop = loop
        self._notifier = notifier
        self._clock_ns = clock_ns
        self._unix_s = unix_s
        self._askers: list[AdminPeer] = []  # of the one that is on its way
        self._next_askers: list[AdminPeer] = []

    def ask(self, by: str) -> None:
        """Want one; `by` says who, for the log."""
        log.info("a reload is asked for", extra={"by": by})
        self.is_due = True

    def ask_for(self, peer: AdminPeer) -> None:
        """Want one, and tell `peer` what came of it."""
        if self._is_stopping:
            peer.answer(_REFUSED)
            return
        peer.patience_ns = None
        self._next_askers.append(peer)
        self.ask("command")

    def begin(self) -> None:
        """Begin the one that is due; `succeeded` or `failed` ends it."""
        self.is_due, self._is_running = False, True
        self._askers, self._next_askers = self._next_askers, []
        self._notifier.reloading("loading the next generation", self._clock_ns())
        try:
            self._load()
        except RingbrokerError as error:
            self.failed(error)

    def stop(self) -> None:
        """The broker ends: whoever asked, or asks from now on, is refused."""
        self._is_stopping = True
        self._askers += self._next_askers
        self._next_askers = []
        self._tell(_REFUSED)

    def succeeded(self, generation: int) -> None:
        """A new generation serves; it was not asked for where it replaces one that lost its loader."""
        if not self._is_running:
            return
        self._notifier.ready()
        self._end({"generation": generation})

    def failed(self, error: RingbrokerError) -> None:
        """What served goes on; the generation that failed was not asked for where it was to replace another."""
        told = {"code": name_of(error.code), "error": str(error)}
        what = "the reload" if self._is_running else "the loader's replacement"
        log.error(f"{what} failed, and what served goes on", extra=told)
        if not self._is_running:
            return
        self._notifier.ready(f"the last reload failed: {error}")
        self._end({"error": str(error), "code": error.code})

    def _end(self, outcome: dict[str, Any]) -> None:
        self._is_running = False
        when = datetime.fromtimestamp(self._unix_s(), UTC)
        self.last = {**outcome, "time": when.isoformat(timespec="seconds")}
        self._tell(outcome)

    def _tell(self, outcome: dict[str, Any]) -> None:
        askers, self._askers = self._askers, []
        for peer in askers:
            peer.answer(outcome)
            self._loop.flush(peer.connection)
