"""processes: how soon are the broker's processes there, and what does one more worker cost?

All is seen from outside: the sockets, `broker status`, /proc. The model is all-MiniLM-L6-v2, 90 MB of weights.

- start: from the start of `broker serve` until its socket accepts and health is answered
- fork to ready: from when a killed worker's successor is seen as the loader's child until it serves
- kill to answer: from the kill of a worker until its client, which asks again at once, has a good answer
- memory: the private pages of four workers, each of which has answered

A ratio is the slowest try's, or the largest worker's, over the limit; that of `broker health` is of two p50, in turns.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import ringbroker

from bench.harness import (
    ROOT,
    Row,
    Sample,
    at_most,
    broker,
    interleave,
    progress,
    report,
    scratch_folder,
    summarise,
    timed,
)
from bench.real_models import make, maxima_of, serve_arguments
from broker import admin
from ringbuf.errors import RingbrokerError

QUESTION = "processes: starts, forks and memory with a 90 MB model, over their limits"
MODEL, OUTPUT = "embed", "embedding"
LIMITS_S = {"start": 0.2, "fork to ready": 0.3, "kill to answer": 0.5}
HEALTH_LIMIT = 3.0  # of the start of a bare Python
PRIVATE_LIMIT_MB = 20.0  # and what the activations take
TRIES = 20
WORKERS = 4
POLL_S = 0.001
IDLE_S = 2.0  # a worker that has been idle for a second collects garbage


def main() -> None:
    """Measure and report."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        make(folder, [MODEL])
        served = [*serve_arguments(folder, MODEL), "--threads", "1"]
        path = stack.enter_context(broker(folder, *served))
        answer = _answers(stack, path)
        tries: dict[str, Callable[[], float]] = {
            "start": lambda: _start_s(folder, served),
            "fork to ready": lambda: _ready_s(path),
            "kill to answer": lambda: _answer_s(path, answer),
        }
        seen = {what: _tries(what, take_s) for what, take_s in tries.items()}
        health, bare = ["-m", "broker", "health", "--socket", path], ["-c", "pass"]
        seen |= interleave([timed("broker health", _python(health)), timed("bare Python", _python(bare))], TRIES, 1)
        many = stack.enter_context(broker(folder, *served, "--workers", str(WORKERS), name="many"))
        private_mb = _private_mb(many)
    rows = [_over_limit(what, seen[what], limit_s) for what, limit_s in LIMITS_S.items()]
    probe, python = seen["broker health"].p50_ns, seen["bare Python"].p50_ns
    detail = f"{probe / 1e6:.0f} ms / {python / 1e6:.0f} ms"
    rows.append(at_most("broker health over bare Python", probe / python, HEALTH_LIMIT, detail))
    each = ", ".join(f"{mb:.1f}" for mb in private_mb)
    ratio = max(private_mb) / PRIVATE_LIMIT_MB
    rows.append(at_most("private memory of a worker", ratio, 1.0, f"{each} MB / {PRIVATE_LIMIT_MB:g} MB"))
    report(QUESTION, rows, seen)


def _tries(what: str, take_s: Callable[[], float]) -> Sample:
    taken_ns = []
    for number in range(TRIES):
        progress(f"{what} {number + 1}/{TRIES}")
        taken_ns.append(int(take_s() * 1e9))
    progress("")
    return summarise(taken_ns)  # of so few, the p99 is the slowest


def _over_limit(what: str, sample: Sample, limit_s: float) -> Row:
    slowest_s = sample.p99_ns / 1e9
    detail = f"{slowest_s * 1e3:.0f} ms / {limit_s * 1e3:.0f} ms; p50 {sample.p50_ns / 1e6:.0f} ms; {TRIES} tries"
    return at_most(what, slowest_s / limit_s, 1.0, detail)


# --- start ---


def _start_s(folder: Path, served: list[str]) -> float:
    """Start a broker, and end it again while it loads."""
    path = str(folder / "start.sock")
    command = [sys.executable, "-m", "broker", "serve", "--socket", path, *served]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _is_live(path):
            time.sleep(POLL_S)
        return time.perf_counter() - began
    finally:
        child.terminate()
        child.wait(timeout=30)


def _is_live(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock, suppress(OSError, RingbrokerError):
        sock.connect(path)
        admin.ask(path, "health")
        return True
    return False


# --- a worker that is killed ---


def _ready_s(path: str) -> float:
    """Kill the only worker, and watch the loader fork another."""
    killed = _serving(path)
    loader = int(Path(f"/proc/{killed}/stat").read_text().rpartition(")")[2].split()[1])
    children = Path(f"/proc/{loader}/task/{loader}/children")
    os.kill(killed, signal.SIGKILL)
    while not set(children.read_text().split()) - {str(killed)}:
        time.sleep(POLL_S)
    began = time.perf_counter()
    _serving(path, killed)
    return time.perf_counter() - began


def _answer_s(path: str, answer: Callable[[], None]) -> float:
    """Kill the only worker, and ask until there is an answer."""
    killed = _serving(path)
    answer()
    os.kill(killed, signal.SIGKILL)
    began = time.perf_counter()
    answer()
    return time.perf_counter() - began


def _answers(stack: ExitStack, path: str) -> Callable[[], None]:
    """Asks until there is an answer, which is as good as the first was."""
    client = stack.enter_context(ringbroker.connect(path))
    ring = stack.enter_context(client.open(MODEL, slots=1, maxima=maxima_of(MODEL)))
    lease = stack.enter_context(ring.acquire(rows=1))
    for view in lease.inputs.values():
        view[:] = 1
    output = lease.infer(timeout=60)[OUTPUT]  # the same array for every answer
    first = output.copy()

    def ask() -> None:
        output[:] = 0  # the answer before is none
        while True:
            with suppress(ringbroker.BrokerLost):
                lease.infer(timeout=60)
                break
        if not np.allclose(output, first, atol=1e-5):
            raise RuntimeError("the answer after a kill is another than before")

    return ask


def _serving(path: str, but_not: int | None = None) -> int:
    """The only worker, once one serves."""
    while True:
        ((worker,),) = (pool["workers"] for pool in admin.ask(path, "status")["pools"].values())
        if worker["is_serving"] and worker["pid"] != but_not:
            return int(worker["pid"])
        time.sleep(POLL_S)


# --- memory ---


def _private_mb(path: str) -> list[float]:
    """Of each worker, after each has answered."""
    with ExitStack() as stack:
        for _ in range(WORKERS):  # the supervisor gives each connection to the least loaded
            ask = _answers(stack, path)
            ask()
        time.sleep(IDLE_S)
        workers = [worker for pool in admin.ask(path, "status")["pools"].values() for worker in pool["workers"]]
        if [worker["sessions"] for worker in workers] != [1] * WORKERS:
            raise RuntimeError("the connections are not spread over the workers")
        return [_private_bytes(worker["pid"]) / 1e6 for worker in workers]


def _private_bytes(pid: int) -> int:
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(line[1]) * 1024 for line in lines if line[0] in ("Private_Clean:", "Private_Dirty:"))


def _python(arguments: list[str]) -> Callable[[], None]:
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run() -> None:
        subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)

    return run


if __name__ == "__main__":
    main()
