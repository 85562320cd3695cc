"""overhead: what does the broker add to a model? Round trip minus the RESULT's compute time, both sides spinning."""

from __future__ import annotations

from contextlib import ExitStack

import ringbroker

from bench.harness import Row, broker, interleave, report, scratch_folder, us
from bench.held_lease import on_held_lease
from bench.real_models import REAL, make, maxima_of, serve_arguments

QUESTION = "overhead: what the broker adds to a model, of its own time"
GOAL_US = 15.0
ROUNDS = 15
TURNS = {"tiny": 1000, "score": 1000, "classify": 10, "embed": 20}


def main() -> None:
    """Measure and report."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        make(folder)
        served = [argument for model in REAL for argument in serve_arguments(folder, model)]
        path = stack.enter_context(broker(folder, "tiny=bench.models:tiny", *served, "--threads", "1"))
        client = stack.enter_context(ringbroker.connect(path, spin=1_000_000))
        seen = interleave(
            [on_held_lease(stack, client, model, model, maxima_of(model)) for model in TURNS], ROUNDS, TURNS
        )
    rows = []
    for model, sample in seen.items():
        added_us, compute_us = sample.beyond_ns / 1e3, (sample.p50_ns - sample.beyond_ns) / 1e3
        detail = f"{added_us:.1f} us beside {us(compute_us * 1e3)} of compute"
        rows.append(Row(model, added_us / compute_us, f"<= {GOAL_US:g} us", added_us <= GOAL_US, detail))
    report(QUESTION, rows, seen)


if __name__ == "__main__":
    main()
