"""sizes: does an answer cost more when the tensors are larger?

Round trip minus the RESULT's own compute time, for a model that reads its whole input, at 16 MB over 4 KB. Nothing is
copied, so the two should be the same.
"""

from __future__ import annotations

from contextlib import ExitStack

import ringbroker

from bench.harness import Contender, at_most, broker, interleave, report, scratch_folder, timed, us

QUESTION = "sizes: what an answer costs beyond the model, at 16 MB over 4 KB"
ROUNDS, TURN = 15, 200


def main() -> None:
    """Measure and report."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        served = ["small=bench.models:reading_4kb", "large=bench.models:reading_16mb"]
        path = stack.enter_context(broker(folder, *served, "--threads", "1"))
        client = stack.enter_context(ringbroker.connect(path, spin=10_000))
        seen = interleave([_contender(stack, client, name) for name in ("small", "large")], ROUNDS, TURN)
    small, large = seen["small"].beyond_ns, seen["large"].beyond_ns
    report(QUESTION, [at_most("16 MB over 4 KB", large / small, 1.10, f"{us(large)} / {us(small)}")], seen)


def _contender(stack: ExitStack, client: ringbroker.Client, name: str) -> Contender:
    lease = stack.enter_context(stack.enter_context(client.open(name, slots=1)).acquire(rows=1))
    lease.inputs["x"][:] = 1.0
    return timed(name, lambda: lease.infer(timeout=5).compute_ns)


if __name__ == "__main__":
    main()
