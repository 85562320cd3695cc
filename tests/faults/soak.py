"""A soak: a steady load, a random fault every ten seconds, and what the broker holds meanwhile.

    python -m tests.faults.soak --minutes 10 [--out FOLDER]

Clients check every answer. At the end nothing was wrong, and after a warm-up neither memory nor descriptors have
grown: a line through the medians of the run's stretches, which are what is held while nothing is being replaced, rises
in all by less than twice the noise. Samples are written as CSV, and drawn as SVG. It stops by itself.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from itertools import groupby, pairwise
from pathlib import Path
from statistics import median

import numpy as np
import ringbroker

from tests.conftest import running_broker
from tests.faults import leaks
from tests.faults.load import Load
from tests.faults.signals import loader_of
from tests.faults.soak_plot import Panel, plot
from tests.faults.wire import until

FAULT_EVERY_S = 10.0
SAMPLE_EVERY_S = 2.0
WARM_UP = 0.2  # of the run
STRETCHES = 20  # of a run of ten minutes, after the warm-up: 24 s, so that no reload fills half of one
MODELS = ["twice=tests.faults.models:twice"]
COLUMNS = ("seconds", "private_mib", "descriptors", "processes", "answers", "lost", "fault")


class Faults:
    """What is done to the broker, one thing at a time."""

    def __init__(self, broker, choice):
        self.done = Counter()
        self._broker = broker
        self._choice = choice

    def one(self):
        """Any of them; returns its name."""
        fault = self._choice.choice(
            (self.kill_worker, self.stop_worker, self.kill_loader, self.reload, self.client_dies)
        )
        fault()
        self.done[fault.__name__] += 1
        return fault.__name__

    def kill_worker(self):
        self._signal(self._choice.choice(self._broker.worker_pids), signal.SIGKILL)

    def stop_worker(self):
        """For less than the broker waits."""
        pid = self._choice.choice(self._broker.worker_pids)
        self._signal(pid, signal.SIGSTOP)
        time.sleep(0.2)
        self._signal(pid, signal.SIGCONT)

    def kill_loader(self):
        self._signal(loader_of(self._broker), signal.SIGKILL)

    def reload(self):
        self._signal(self._broker.pid, signal.SIGHUP)

    def client_dies(self):
        """A process that infers, killed."""
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException), ringbroker.connect(self._broker.socket_path) as client:
                model = client.open("twice", slots=4)
                while True:
                    model(np.zeros((1, 4), np.float32))
            os._exit(0)
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def _signal(self, pid, number):
        with suppress(ProcessLookupError, TypeError):  # gone, or not told yet
            os.kill(pid, number)


def most_per_second(path, clients):
    """How many calls a second as many clients can make."""
    with Load(path, clients, rate=1e9, repost=True) as load:
        until(lambda: load.answers > 200)
        before, began = load.answers, time.monotonic()
        time.sleep(3)
        return (load.answers - before) / (time.monotonic() - began)


def usual(samples, column):
    """The median of every stretch after the warm-up, at its time: what is held while nothing is being replaced."""
    kept = samples[int(len(samples) * WARM_UP) :]
    length = max((kept[-1][0] - kept[0][0]) / STRETCHES, FAULT_EVERY_S)
    stretches = groupby(_curve(kept, column), key=lambda point: (point[0] - kept[0][0]) // length)
    return [tuple(map(median, zip(*points, strict=True))) for _, points in stretches]


def slope(points):
    """Of a line through the points: its slope per hour, its growth in all, and their spread around it."""
    x, y = np.array(points, float).T
    gradient, offset = np.polyfit(x, y, 1)
    return gradient * 3600, gradient * (x[-1] - x[0]), float(np.std(y - (gradient * x + offset)))


def soak(minutes, clients, seed):
    """Run; return the samples, the load and the faults."""
    choice = random.Random(seed)
    samples = []
    with running_broker(*MODELS, "--workers", "2") as broker:
        rate = 0.7 * most_per_second(broker.socket_path, clients) / clients
        faults = Faults(broker, choice)
        with Load(broker.socket_path, clients, rate=rate, repost=True) as load:
            began = time.monotonic()
            next_fault = began + FAULT_EVERY_S
            while (now := time.monotonic()) - began < minutes * 60:
                fault = ""
                if now >= next_fault:
                    fault = faults.one()
                    next_fault += FAULT_EVERY_S
                total = sum((leaks.descriptors(pid) for pid in leaks.processes(broker)), Counter()).total()
                samples.append(
                    (
                        round(now - began, 1),
                        round(leaks.private_bytes(broker) / 2**20, 1),
                        total,
                        len(leaks.processes(broker)),
                        load.answers,
                        load.lost,
                        fault,
                    )
                )
                for tally in load.tallies:
                    tally.done.clear()  # times are not what is looked at here
                time.sleep(SAMPLE_EVERY_S)
        load.check()
        assert broker.stop() == 0
        assert leaks.names(broker) == []
    return samples, load, faults


def draw(samples, title, subtitle):
    """Memory, descriptors and answers over time, with the faults."""
    seconds = [sample[0] for sample in samples]
    answers = [sample[COLUMNS.index("answers")] for sample in samples]
    rates = [(end, (n - m) / (end - begin)) for (begin, m), (end, n) in pairwise(zip(seconds, answers, strict=True))]
    panels = [
        Panel("private memory of all processes, MiB", _curve(samples, "private_mib")),
        Panel("open descriptors of all processes", _curve(samples, "descriptors")),
        Panel("answers a second, each of them checked", rates),
    ]
    faults = [(at, name) for at, name in _curve(samples, "fault") if name]
    return plot(title, subtitle, panels, faults)


def _curve(samples, column):
    return [(sample[0], sample[COLUMNS.index(column)]) for sample in samples]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    asked = parser.parse_args()
    samples, load, faults = soak(asked.minutes, asked.clients, asked.seed)
    did = f"{load.answers} answers, {load.lost} lost and asked again, 0 wrong; {faults.done.total()} faults"
    command = f"python -m tests.faults.soak --minutes {asked.minutes:g} --clients {asked.clients} --seed {asked.seed}"
    asked.out.mkdir(parents=True, exist_ok=True)
    with (asked.out / "soak.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *samples])
    (asked.out / "soak.svg").write_text(draw(samples, f"A broker under faults: {command}", did))
    print(f"{asked.minutes:g} minutes, {did}: {dict(faults.done)}")
    is_flat = True
    for column in ("private_mib", "descriptors"):
        per_hour, growth, noise = slope(usual(samples, column))
        is_flat = is_flat and growth < max(2 * noise, 1)
        print(
            f"{column}: slope {per_hour:+.1f} per hour; {growth:+.1f} in this run, after the warm-up; noise {noise:.1f}"
        )
    print(f"drawn in {asked.out}/soak.svg, the samples in soak.csv")
    return 0 if is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
