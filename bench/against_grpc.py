"""grpc: how much longer does the same answer take over gRPC?

At 4 KB, 602 KB (an image of 3x224x224) and 16 MB, with a trivial model.

Ours: the data are made in the slot, as the product is used; and, beside it, with one more copy of an array into the
slot. gRPC: Python both ends, Unix socket, raw `bytes` both ways, the input an array that has to become bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack

import grpc
import numpy as np
import ringbroker

from bench import models
from bench.grpc_server import UNLIMITED
from bench.harness import Contender, at_least, broker, interleave, process, report, scratch_folder, timed, us

QUESTION = "grpc: the same answer over gRPC, over ours"
SIZES = {"4kb": (models.KB4, 30.0, 500), "602kb": (models.KB602, 40.0, 100), "16mb": (models.MB16, 2000.0, 4)}
OUR_TURN = 500  # long enough for the caches to forget the turn before, whose tensors are copied
ROUNDS = 12


def main() -> None:
    """Measure and report."""
    factories = {size: f"bench.models:trivial_{size}" for size in SIZES}
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        path = stack.enter_context(broker(folder, *(f"{k}={v}" for k, v in factories.items()), "--threads", "1"))
        command = [sys.executable, "-m", "bench.grpc_server", folder / "grpc.sock", *factories.values()]
        stack.enter_context(process(command, "listening"))
        client = stack.enter_context(ringbroker.connect(path, spin=1000))
        channel = stack.enter_context(grpc.insecure_channel(f"unix:{folder / 'grpc.sock'}", options=UNLIMITED))
        contenders: list[Contender] = []
        turns: dict[str, int] = {}
        for size, (floats, _, turn) in SIZES.items():
            array = np.ones((1, floats), np.float32)
            steps = {
                "ours": _ours(stack, client, size),
                "ours, copied in": _copied_in(stack, client, size, array),
                "grpc": _grpc(channel, size, array),
            }
            contenders += [timed(f"{name} {size}", step) for name, step in steps.items()]
            turns |= {f"{name} {size}": turn for name in steps} | {f"ours {size}": OUR_TURN}
        seen = interleave(contenders, ROUNDS, turns)
    rows = []
    for size, (_, goal, _) in SIZES.items():
        ours, copied, theirs = (seen[f"{name} {size}"].p50_ns for name in ("ours", "ours, copied in", "grpc"))
        detail = f"{us(theirs)} / {us(ours)}; {theirs / copied:.1f}x where an array is copied into the slot first"
        rows.append(at_least(f"gRPC over ours at {size}", theirs / ours, goal, detail))
    report(QUESTION, rows, seen)


def _ours(stack: ExitStack, client: ringbroker.Client, size: str) -> Callable[[], None]:
    lease = stack.enter_context(stack.enter_context(client.open(size, slots=1)).acquire(rows=1))
    lease.inputs["x"][:] = 1.0

    def step() -> None:
        lease.infer(timeout=5)

    return step


def _copied_in(stack: ExitStack, client: ringbroker.Client, size: str, array: np.ndarray) -> Callable[[], None]:
    lease = stack.enter_context(stack.enter_context(client.open(size, slots=1)).acquire(rows=1))

    def step() -> None:
        lease.inputs["x"][:] = array
        lease.infer(timeout=5)

    return step


def _grpc(channel: grpc.Channel, size: str, array: np.ndarray) -> Callable[[], None]:
    call = channel.unary_unary(f"/models/trivial_{size}")

    def step() -> None:
        np.frombuffer(call(array.tobytes()), np.float32)

    return step


if __name__ == "__main__":
    main()
