"""Models that wait inside, and write down who runs them: so that a fault meets them at a known point."""

import os
import time
from pathlib import Path

from tests.conformance.reference_models import Model
from tests.faults.models import ROW
from tests.faults.wire import until

WAITS = 13.0  # what the first of a row says to them


class Trap:
    """The tests' side: a folder where models write down their runs, and look for leave to go on."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def set(self):
        """From now on models wait, and nothing is written down yet."""
        self.leave.unlink(missing_ok=True)
        self.runs.unlink(missing_ok=True)

    def release(self):
        """Let every run go on, now and later."""
        self.leave.touch()

    def wait_for(self, count):
        """Until so many runs were begun."""
        until(lambda: len(self.pids) >= count)

    def enter(self):
        """The models' side."""
        with self.runs.open("a") as file:
            file.write(f"{os.getpid()}\n")
        while not self.leave.exists():
            time.sleep(0.001)

    @property
    def pids(self):
        """The process of every run that was begun."""
        return [int(line) for line in self.runs.read_text().split()] if self.runs.exists() else []

    @property
    def runs(self):
        return self.folder / "runs"

    @property
    def leave(self):
        return self.folder / "leave"


def waiting(folder):
    """y = 2 * x; waits where a row begins with 13."""

    def run(x):
        if WAITS in x[:, 0].tolist():
            Trap(folder).enter()
        return 2 * x

    return Model(run, {"x": ROW}, {"y": ROW})


def stateful(folder):
    """y = x + how often it was run; waits where a row begins with 13."""
    count = 0

    def run(x):
        nonlocal count
        count += 1
        if WAITS in x[:, 0].tolist():
            Trap(folder).enter()
        return x + count

    return Model(run, {"x": ROW}, {"y": ROW})


def warming(folder):
    """y = 2 * x; the first run in a worker, its warm-up, waits."""
    is_warm = False

    def run(x):
        nonlocal is_warm
        if not is_warm and "memfd:counters" in Path("/proc/self/maps").read_text():  # a worker's page
            Trap(folder).enter()
            is_warm = True
        return 2 * x

    return Model(run, {"x": ROW}, {"y": ROW})


def loading(folder):
    """y = 2 * x, once it is loaded, which waits."""
    Trap(folder).enter()
    return Model(lambda x: 2 * x, {"x": ROW}, {"y": ROW})


def proving(folder):
    """y = 2 * x; in the loader's first fork, the proof that forks can run it, it does not return."""
    loader = os.getpid()

    def run(x):
        if os.getpid() != loader:
            Trap(folder).enter()
        return 2 * x

    return Model(run, {"x": ROW}, {"y": ROW})


def served(name, trap, factory=None):
    """The arguments of `broker serve` for one of these."""
    return (f"{name}={__name__}:{factory or name}", "--argument", f"{name}/folder={trap.folder}")
