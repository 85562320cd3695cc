"""pools: is a fast model answered later because a model of 100 ms computes in another pool?

Numerator: p99 of the fast model while the slow one computes, for a client that asks it again at once. Denominator: its
p99 while the slow one rests. One broker, the phases in turns, two CPUs, one thread inside an op, spin auto; nobody is
pinned to a CPU. Flat out: the fast model's client asks again at once, too. Paced: 1 ms after its answer.

On two CPUs `auto` lets two workers sleep, where the fast one alone would spin; the last row says what that costs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass

import ringbroker

from bench.harness import (
    Contender,
    Row,
    Sample,
    at_least,
    at_most,
    broker,
    interleave,
    process,
    report,
    scratch_folder,
    us,
)
from bench.held_lease import on_held_lease
from broker import admin

QUESTION = "pools: a fast model beside a slow one in another pool, over the fast one alone, p99"
GOAL = 2.0
FAST, SLOW = "fast=bench.models:mlp", "slow=bench.models:Slow"
PAUSES_S = {"flat out": 0.0, "paced": 0.001}
TURNS = {"flat out": 10_000, "paced": 1500}
ROUNDS = 12
SETTLE_S = 0.3  # longer than a forward of the slow model


def main() -> None:
    """Measure and report."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:2])  # two CPUs, as the question says, also where there are more
    try:
        _measure()
    finally:
        os.sched_setaffinity(0, allowed)


def _measure() -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        path = stack.enter_context(broker(folder, FAST, SLOW, "--pool", "slow=slow", "--threads", "1"))
        own = stack.enter_context(broker(folder, FAST, "--threads", "1", name="own"))
        slow = _slow(stack, path)
        clients = [stack.enter_context(ringbroker.connect(each)) for each in (path, own)]
        contenders, turns = [], {}
        for way, pause_s in PAUSES_S.items():
            alone = on_held_lease(stack, clients[0], "fast", f"alone, {way}", pause_s=pause_s)
            contenders += [alone, Beside(f"beside, {way}", alone, slow)]
            turns |= {f"{phase}, {way}": TURNS[way] for phase in ("alone", "beside")}
        contenders.append(on_held_lease(stack, clients[1], "fast", "own broker, flat out"))
        seen = interleave(contenders, ROUNDS, turns | {"own broker, flat out": TURNS["flat out"]})
        slow_us = admin.ask(path, "status")["models"]["slow"]["mean_compute_us"]
    rows: list[Row] = []
    for way in PAUSES_S:
        beside, alone = seen[f"beside, {way}"], seen[f"alone, {way}"]
        detail = f"{_both(beside, alone)}; the slow model took {slow_us / 1e3:.0f} ms"
        rows.append(at_most(f"{way}, beside over alone", beside.p99_ns / alone.p99_ns, GOAL, detail))
    alone, spinning = seen["alone, flat out"], seen["own broker, flat out"]
    rows.append(at_least("alone, over no other pool", alone.p99_ns / spinning.p99_ns, 0.0, _both(alone, spinning)))
    report(QUESTION, rows, seen)


def _both(over: Sample, under: Sample) -> str:
    return f"{us(over.p99_ns)} / {us(under.p99_ns)}; p50 {us(over.p50_ns)} / {us(under.p50_ns)}"


@dataclass(frozen=True)
class Beside:
    """A contender's turn while the slow model's client is let go on."""

    name: str
    contender: Contender
    slow: subprocess.Popen[str]

    def run(self, n: int) -> Sample:
        """Do `n` of them."""
        self.slow.send_signal(signal.SIGCONT)
        time.sleep(SETTLE_S)
        try:
            return self.contender.run(n)
        finally:
            self.slow.send_signal(signal.SIGSTOP)
            time.sleep(SETTLE_S)  # what it asked last is answered


def _slow(stack: ExitStack, path: str) -> subprocess.Popen[str]:
    """The slow model's client, stopped."""
    child = stack.enter_context(process([sys.executable, "-m", "bench.asking", path, "slow"], "asking"))
    stack.callback(child.send_signal, signal.SIGCONT)  # or it would not heed its end
    child.send_signal(signal.SIGSTOP)
    time.sleep(SETTLE_S)
    return child


if __name__ == "__main__":
    main()
