"""batching: what does a batch save, as a slice of the ring, gathered, or not at all?

A client sends 1 to 64 requests of one row at once, on neighbouring slots (one slice), on every second slot (copied
together: `gather = always`), or to a broker that runs each by itself (`max_batch = 1`). Ratios are of the time until
all are answered, one by one over the others. Models: a small MLP, a network of ResNet-18's shape at 3x224x224, and
all-MiniLM-L6-v2 on 32 tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.encoded import EncodedClient
from bench.harness import Contender, Row, at_least, broker, interleave, report, scratch_folder, timed, us
from bench.real_models import REAL, make, maxima_of, serve_arguments

QUESTION = "batching: one by one over a slice, and over a gathered batch"
SIZES = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = {"score": 12, "classify": 3, "embed": 3}


class Way(NamedTuple):
    """How the rows of a burst become batches."""

    name: str
    step: int
    """From one row's slot to the next."""
    options: tuple[str, ...]


WAYS = (
    Way("slice", 1, ()),
    Way("gather", 2, ("--gather", "always")),
    Way("one by one", 1, ("--max-batch", "1")),
)


def main() -> None:
    """Measure and report."""
    rows, samples = [], {}
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        make(folder)
        for model in REAL:
            with ExitStack() as inner:
                seen = interleave(_contenders(inner, folder, model), ROUNDS[model], 1 if model != "score" else 300)
            rows += [_row(model, way, size, seen) for size in SIZES for way in ("slice", "gather")]
            samples |= seen
    report(QUESTION, rows, samples)


def _row(model: str, way: str, size: int, seen: dict) -> Row:
    alone, together = (seen[f"{model} {size} {name}"].p50_ns for name in ("one by one", way))
    goal = 1.0 if size > 1 and way == "slice" else 0.0
    return at_least(f"{model}, {size} rows, {way}", alone / together, goal, f"{us(alone)} / {us(together)}")


def _contenders(stack: ExitStack, folder: Path, model: str) -> list[Contender]:
    contenders = []
    for number, way in enumerate(WAYS):
        arguments = serve_arguments(folder, model)
        name = f"{model}{number}"
        path = stack.enter_context(broker(folder, *arguments, *way.options, "--threads", "1", name=name))
        slots = max(SIZES) * way.step
        client = EncodedClient(stack, path, model, slots, maxima_of(model))
        _fill(client)
        for size in SIZES:
            frames = b"".join(client.frames(range(0, size * way.step, way.step)))
            contenders.append(timed(f"{model} {size} {way.name}", _asking(client, frames, size)))
    return contenders


def _asking(client: EncodedClient, frames: bytes, size: int) -> Callable[[], None]:
    return lambda: client.ask_all(frames, size)


def _fill(client: EncodedClient) -> None:
    """Ones in every input: ids, masks and pixels that every model takes."""
    for plane in client.ring.planes:
        if plane.direction == "in":
            dtype = {"F32": np.float32, "I64": np.int64}[plane.dtype]
            count = client.ring.slots * plane.stride // np.dtype(dtype).itemsize
            np.frombuffer(client.segment.buffer, dtype, count, plane.offset)[:] = 1


if __name__ == "__main__":
    main()
