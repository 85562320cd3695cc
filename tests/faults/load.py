"""A steady load of several clients, each of which checks every answer and remembers how long it waited."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import ringbroker

from tests.faults.wire import until


@dataclass
class Tally:
    """What one client saw."""

    answers: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[Exception] = field(default_factory=list)
    done: list[tuple[float, float]] = field(default_factory=list)
    """When each answer came, and how long the call took, in seconds."""


class Load:
    """`clients` threads that call `twice` at about `rate` calls a second each, until the block ends.

    A lost request is one that ended in an error that is marked retryable; it is asked again.
    """

    def __init__(self, path, clients=3, rate=200.0, rows=1, **options):
        self.tallies = [Tally() for _ in range(clients)]
        self._rate = rate
        self._rows = rows
        self._stopping = threading.Event()
        self._clients = [ringbroker.connect(path, timeout=30, **options) for _ in range(clients)]
        self._threads = [
            threading.Thread(target=self._run, args=pair) for pair in zip(self._clients, self.tallies, strict=True)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """End every client."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
        for client in self._clients:
            client.close()

    @property
    def answers(self):
        return sum(tally.answers for tally in self.tallies)

    @property
    def lost(self):
        return sum(tally.lost for tally in self.tallies)

    def check(self):
        """No answer was wrong, and no call failed but by a loss."""
        assert not [text for tally in self.tallies for text in tally.wrong]
        assert not [error for tally in self.tallies for error in tally.failed]
        assert all(tally.answers for tally in self.tallies)

    def wait_for_more(self, count=10):
        """Wait until every client has so many answers more, or has failed."""
        wanted = [(tally, tally.answers + count) for tally in self.tallies]
        until(lambda: all(tally.answers >= enough or tally.failed for tally, enough in wanted))

    def next_answer(self, since):
        """When the next answer came that was asked for after `since`, by the slowest client; None for not yet."""
        firsts = [next((at for at, took in tally.done if at - took >= since), None) for tally in self.tallies]
        return None if None in firsts else max(firsts)

    def waits(self, begin, end):
        """How long the calls took that were asked for and answered between two times, sorted."""
        return sorted(took for tally in self.tallies for at, took in tally.done if begin <= at - took and at <= end)

    def _run(self, client, tally):
        number = 0
        try:
            with client.open("twice", slots=8) as model:
                while not self._stopping.is_set():
                    number += 1
                    began = time.monotonic()
                    self._call(model, float(number), tally)
                    tally.done.append((time.monotonic(), time.monotonic() - began))
                    time.sleep(max(0.0, 1 / self._rate - (time.monotonic() - began)))
        except Exception as error:
            tally.failed.append(error)

    def _call(self, model, number, tally):
        sent = np.arange(self._rows * 4, dtype=np.float32).reshape(self._rows, 4) + number
        while True:
            try:
                answer = model(sent, timeout=30)
                break
            except ringbroker.Error as error:
                if not error.is_retryable:
                    raise
                tally.lost += 1
        tally.answers += 1
        if not np.array_equal(answer, 2 * sent):
            tally.wrong.append(f"call {number}: {answer} for {sent}")
