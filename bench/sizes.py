"""sizes: does an answer cost more when the tensors are larger?

Round trip minus the RESULT's own compute time: with a 64 MB input that is read whole and a 64 MB output, over the same
at 4 KB; and with a 16 MB input of which one number comes back. Nothing is copied on the way. But a model that has gone
through 64 MB leaves the caches cold for everything that comes after it; the second row of each pair takes that out:
there the model with the 4 KB tensors goes through as much memory of its own besides.
"""

from __future__ import annotations

from contextlib import ExitStack

import ringbroker

from bench.harness import at_most, broker, interleave, report, scratch_folder, us
from bench.held_lease import on_held_lease

QUESTION = "sizes: what an answer costs beyond the model, for large tensors over small ones"
SERVED = {
    "4 KB in and out": "doubling --argument {name}/floats=1024",
    "4 KB in and out, 128 MB elsewhere": "doubling_elsewhere",
    "64 MB in and out": "doubling --argument {name}/floats=16777216",
    "4 KB in": "reading_4kb",
    "4 KB in, 16 MB elsewhere": "reading_elsewhere",
    "16 MB in": "reading_16mb",
}
PAIRS = [
    ("64 MB over 4 KB, in and out", "64 MB in and out", "4 KB in and out"),
    ("the same, caches cold for both", "64 MB in and out", "4 KB in and out, 128 MB elsewhere"),
    ("16 MB over 4 KB, in", "16 MB in", "4 KB in"),
    ("the same, caches cold for both", "16 MB in", "4 KB in, 16 MB elsewhere"),
]
ROUNDS, TURN = 15, 40


def main() -> None:
    """Measure and report."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        arguments = []
        for number, factory in enumerate(SERVED.values()):
            source, *options = factory.format(name=f"m{number}").split()
            arguments += [f"m{number}=bench.models:{source}", *options]
        path = stack.enter_context(broker(folder, *arguments, "--threads", "1"))
        client = stack.enter_context(ringbroker.connect(path, spin=10_000))
        seen = interleave([on_held_lease(stack, client, f"m{n}", name) for n, name in enumerate(SERVED)], ROUNDS, TURN)
    beyond = {name: sample.beyond_ns for name, sample in seen.items()}
    rows = [
        at_most(what, beyond[large] / beyond[small], 1.10, f"{us(beyond[large])} / {us(beyond[small])}")
        for what, large, small in PAIRS
    ]
    report(QUESTION, rows, seen)


if __name__ == "__main__":
    main()
