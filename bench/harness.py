"""What every benchmark shares: contenders that take turns, processes that end with the run, the report."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Protocol

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"


@dataclass(frozen=True)
class Sample:
    """One turn of a contender; `beyond_ns` is the p50 of what the broker's RESULT does not call compute."""

    p50_ns: float
    p99_ns: float
    per_s: float
    beyond_ns: float = 0.0
    accuracy: float = 0.0


class Contender(Protocol):
    """Something that can do `n` round trips when it is its turn."""

    name: str

    def run(self, n: int) -> Sample:
        """Do `n` of them."""


def summarise(latencies_ns: list[int], beyond_ns: list[int] | None = None, accuracy: float = 0.0) -> Sample:
    """Make a sample of single latencies."""
    ordered = sorted(latencies_ns)
    beyond = median(beyond_ns) if beyond_ns else 0.0
    return Sample(
        ordered[len(ordered) // 2],
        ordered[len(ordered) * 99 // 100],
        1e9 * len(ordered) / sum(ordered),
        beyond,
        accuracy,
    )


def timed(name: str, step: Callable[[], int | None], pause_s: float = 0.0) -> Contender:
    """A contender that calls `step`; what it returns is the model's own compute time, where it knows it.

    Before each call it sleeps for `pause_s`.
    """
    return _Timed(name, step, pause_s)


@dataclass(frozen=True)
class _Timed:
    name: str
    step: Callable[[], int | None]
    pause_s: float

    def run(self, n: int) -> Sample:
        step, clock, pause_s = self.step, time.perf_counter_ns, self.pause_s
        latencies, beyond = [], []
        for _ in range(n):
            if pause_s:
                time.sleep(pause_s)
            begin = clock()
            compute_ns = step()
            took = clock() - begin
            latencies.append(took)
            if compute_ns is not None:
                beyond.append(took - compute_ns)
        return summarise(latencies, beyond)


def interleave(contenders: Sequence[Contender], rounds: int, n: int | dict[str, int]) -> dict[str, Sample]:
    """Let the contenders take turns; per contender, the median over its turns of every figure.

    The first round is not counted.
    """
    turns: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    for turn in range(rounds + 1):
        progress(f"round {turn}/{rounds}")
        for contender in contenders:
            sample = contender.run(n if isinstance(n, int) else n[contender.name])
            if turn:
                turns[contender.name].append(sample)
    progress("")
    return {name: _median(samples) for name, samples in turns.items()}


def _median(samples: list[Sample]) -> Sample:
    fields = [asdict(sample) for sample in samples]
    return Sample(**{name: median(sample[name] for sample in fields) for name in fields[0]})


def progress(text: str) -> None:
    """Say on a terminal how far it is."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Row:
    """One answer: the ratio that was asked for, its goal, and what it was made of."""

    what: str
    ratio: float
    goal: str
    is_met: bool
    detail: str


def at_most(what: str, ratio: float, goal: float, detail: str) -> Row:
    """A ratio that should be small."""
    return Row(what, ratio, f"<= {goal:g}x", ratio <= goal, detail)


def at_least(what: str, ratio: float, goal: float, detail: str) -> Row:
    """A ratio that should be large."""
    return Row(what, ratio, f">= {goal:g}x", ratio >= goal, detail)


def us(nanoseconds: float) -> str:
    """Nanoseconds as microseconds, for people."""
    return f"{nanoseconds / 1e3:.1f} us"


def report(question: str, rows: list[Row], samples: dict[str, Sample]) -> None:
    """Print the rows and keep the raw figures in bench/results."""
    print(f"\n{question}")
    for row in rows:
        verdict = "met" if row.is_met else "MISSED"
        print(f"  {row.what:<32} {row.ratio:8.2f}x  goal {row.goal:<22} {verdict:<7} {row.detail}")
    RESULTS.mkdir(exist_ok=True)
    raw = {
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
        "samples": {k: asdict(s) for k, s in samples.items()},
    }
    (RESULTS / f"{question.split(':')[0]}.json").write_text(json.dumps(raw, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    versions = {name: version(name) for name in ("torch", "numpy", "msgspec", "grpcio")}
    return {
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
    } | versions


@contextmanager
def on_cpu(number: int) -> Iterator[None]:
    """Start what is started here on one CPU: servers on 0, clients on 1.

    Left alone, the kernel sometimes puts both ends of a sleeping pair on one CPU, where a wake-up costs 1 us, and
    sometimes on two, where it costs 30; which of them a run gets says nothing about either contender.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[number % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for sockets, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="rb-bench-") as folder:
        yield Path(folder)


@contextmanager
def process(command: Sequence[str | Path], ready: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a process, wait for its line that begins with `ready`, and end it afterwards."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT, **options
    )
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        if not line.startswith(ready):
            raise RuntimeError(f"{command[:3]} did not start: {line!r}")
        yield child
    finally:
        child.terminate()
        child.wait(timeout=30)
        child.stdout.close()
        if child.stdin is not None:
            child.stdin.close()


@contextmanager
def broker(folder: Path, *arguments: str, name: str = "broker") -> Iterator[str]:
    """A real broker; gives its socket's path."""
    path = str(folder / f"{name}.sock")
    command = [sys.executable, "-m", "broker", "serve", "--socket", path, *arguments]
    with process(command, "serving on ", stderr=subprocess.DEVNULL):
        yield path


@contextmanager
def go_program(package: str, *arguments: str) -> Iterator[GoContender]:
    """The Go load generator in its serving mode (bench/go): a turn is a line asked and a line answered."""
    binary = build_go(package)
    command = [binary, *arguments]
    with process(command, "{", stdin=subprocess.PIPE) as child:
        yield GoContender("go " + " ".join(arguments[-2:]), child)


def build_go(package: str) -> Path:
    """Build one program of bench/go."""
    target = ROOT / "bench" / ".build" / package
    subprocess.run(["go", "build", "-o", target, f"./{package}"], cwd=ROOT / "bench" / "go", check=True)
    return target


@dataclass
class GoContender:
    """A Go process that does round trips when asked."""

    name: str
    child: subprocess.Popen[str]

    def run(self, n: int) -> Sample:
        """Ask for `n` round trips."""
        assert self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.write(f"run {n}\n")
        self.child.stdin.flush()
        told = json.loads(self.child.stdout.readline())
        return Sample(told["p50_ns"], told["p99_ns"], told["per_s"], told["beyond_p50_ns"], told["accuracy"])
