"""A soak: a steady load, a random fault every ten seconds, and what the broker holds meanwhile.

    python -m tests.faults.soak --minutes 10 [--out FOLDER]

Clients check every answer. At the end nothing was wrong, and after a warm-up neither memory nor descriptors have
grown: the slope of a line through the samples, over the whole run, is less than the noise of a single one. Samples are
written as CSV, and drawn as SVG. It stops by itself.
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
from pathlib import Path

import numpy as np
import ringbroker

from tests.conftest import running_broker
from tests.faults import leaks
from tests.faults.load import Load
from tests.faults.test_workers import loader_of
from tests.faults.wire import until

FAULT_EVERY_S = 10.0
SAMPLE_EVERY_S = 2.0
WARM_UP = 0.2  # of the run
MODELS = ["twice=tests.faults.models:twice"]
COLUMNS = ("seconds", "private_mib", "descriptors", "processes", "answers", "lost")


class Faults:
    """What is done to the broker, one thing at a time."""

    def __init__(self, broker, choice):
        self.done = Counter()
        self._broker = broker
        self._choice = choice

    def one(self):
        """Any of them."""
        fault = self._choice.choice(
            (self.kill_worker, self.stop_worker, self.kill_loader, self.reload, self.client_dies)
        )
        fault()
        self.done[fault.__name__] += 1

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


def slope(samples, column):
    """`(growth, noise)` over the run after the warm-up: of a line through the samples, and their spread around it."""
    kept = samples[int(len(samples) * WARM_UP) :]
    x, y = (np.array([sample[index] for sample in kept], float) for index in (0, COLUMNS.index(column)))
    (gradient, offset) = np.polyfit(x, y, 1)
    return gradient * (x[-1] - x[0]), float(np.std(y - (gradient * x + offset)))


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
                if now >= next_fault:
                    faults.one()
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
                    )
                )
                for tally in load.tallies:
                    tally.done.clear()  # times are not what is looked at here
                time.sleep(SAMPLE_EVERY_S)
        load.check()
        assert broker.stop() == 0
        assert leaks.names(broker) == []
    return samples, load, faults


def draw(samples, path):
    """Memory, descriptors and answers over time, one above the other."""
    width, height = 800, 150
    parts = []
    for row, (column, colour) in enumerate([("private_mib", "#0b7"), ("descriptors", "#07b"), ("answers", "#b70")]):
        values = [sample[COLUMNS.index(column)] for sample in samples]
        top = max(values) or 1
        points = " ".join(
            f"{60 + (width - 70) * sample[0] / samples[-1][0]:.1f},{row * height + 140 - 120 * value / top:.1f}"
            for sample, value in zip(samples, values, strict=True)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
        parts.append(f'<text x="62" y="{row * height + 14}">{column}, 0 to {top}</text>')
    body = "\n".join(parts)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{3 * height}" font-family="monospace" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    asked = parser.parse_args()
    samples, load, faults = soak(asked.minutes, asked.clients, asked.seed)
    asked.out.mkdir(parents=True, exist_ok=True)
    with (asked.out / "soak.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *samples])
    draw(samples, asked.out / "soak.svg")
    print(f"{asked.minutes:g} minutes, {load.answers} answers, {load.lost} lost, 0 wrong; faults: {dict(faults.done)}")
    is_flat = True
    for column in ("private_mib", "descriptors"):
        growth, noise = slope(samples, column)
        is_flat = is_flat and growth < max(2 * noise, 1)
        print(f"{column}: {growth:+.1f} over the run after the warm-up, with a noise of {noise:.1f}")
    return 0 if is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
