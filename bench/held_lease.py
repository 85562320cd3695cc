"""A contender of the Python client: inference after inference on one held lease of one row."""

from __future__ import annotations

from contextlib import ExitStack

import ringbroker

from bench.harness import Contender, timed


def on_held_lease(
    stack: ExitStack,
    client: ringbroker.Client,
    model: str,
    name: str,
    maxima: dict[str, int] | None = None,
    pause_s: float = 0.0,
) -> Contender:
    """Infer on ones, in every input, each time after a pause; what the RESULT calls compute is the model's."""
    lease = stack.enter_context(stack.enter_context(client.open(model, slots=1, maxima=maxima)).acquire(rows=1))
    for view in lease.inputs.values():
        view[:] = 1
    return timed(name, lambda: lease.infer(timeout=60).compute_ns, pause_s)
