"""sizes: does an answer cost more when the tensors are larger?

Round trip minus the RESULT's own compute time, for a model that reads its whole input, at 16 MB over 4 KB. Nothing is
copied on the way. But a model that has read 16 MB leaves the caches cold for everything that comes after it; the second
row takes that out: there the model with the 4 KB input reads 16 MB of its own besides.
"""

from __future__ import annotations

from contextlib import ExitStack

import ringbroker

from bench.harness import Contender, at_most, broker, interleave, report, scratch_folder, timed, us

QUESTION = "sizes: what an answer costs beyond the model, at 16 MB over 4 KB"
SERVED = {"small": "reading_4kb", "cold": "reading_elsewhere", "large": "reading_16mb"}
ROUNDS, TURN = 15, 200


def main() -> None:
    """Measure and report."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        served = [f"{name}=bench.models:{factory}" for name, factory in SERVED.items()]
        path = stack.enter_context(broker(folder, *served, "--threads", "1"))
        client = stack.enter_context(ringbroker.connect(path, spin=10_000))
        seen = interleave([_contender(stack, client, name) for name in SERVED], ROUNDS, TURN)
    small, cold, large = (seen[name].beyond_ns for name in SERVED)
    rows = [
        at_most("16 MB over 4 KB", large / small, 1.10, f"{us(large)} / {us(small)}"),
        at_most("the same, caches cold for both", large / cold, 1.10, f"{us(large)} / {us(cold)}"),
    ]
    report(QUESTION, rows, seen)


def _contender(stack: ExitStack, client: ringbroker.Client, name: str) -> Contender:
    lease = stack.enter_context(stack.enter_context(client.open(name, slots=1)).acquire(rows=1))
    lease.inputs["x"][:] = 1.0
    return timed(name, lambda: lease.infer(timeout=5).compute_ns)


if __name__ == "__main__":
    main()
