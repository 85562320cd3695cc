"""`make demo`: Python and Go classify real handwritten digits through shared memory, beside the same job over gRPC.

One broker serves the built-in digits model; three clients take turns at the 450 held-out images, one image a request:
the Python client, the Go client, and a Python gRPC client of a Python gRPC server that runs the same model.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click
import grpc
import numpy as np
import ringbroker

from bench.harness import ROOT, Contender, Sample, broker, go_program, process, scratch_folder, summarise
from broker.demo import IMAGES, LABELS

ROUNDS = 20  # each client sees every image so many times
TITLES = ("", "accuracy", "p50", "p99", "images/s")


def main() -> None:
    """Start everything, let the clients take turns, print the table."""
    images = np.frombuffer(IMAGES.read_bytes(), np.uint8, offset=16).reshape(-1, 1, 8, 8).astype(np.float32) / 16
    labels = np.frombuffer(LABELS.read_bytes(), np.uint8, offset=8)
    click.echo(f"classifying {len(images)} held-out handwritten digits, {ROUNDS} times each, one image a request")
    with ExitStack() as stack:
        contenders = _contenders(stack, images, labels)
        turns: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
        with click.progressbar(length=ROUNDS, label="  classifying", file=sys.stderr) as bar:
            for _ in range(ROUNDS):
                for contender in contenders:
                    turns[contender.name].append(contender.run(len(images)))
                bar.update(1)
    _print_table(turns)
    if any(sample.accuracy < 0.95 for samples in turns.values() for sample in samples):
        sys.exit("the accuracy is not what the model has: something is wrong")


def _contenders(stack: ExitStack, images: np.ndarray, labels: np.ndarray) -> list[Contender]:
    folder = stack.enter_context(scratch_folder())
    path = stack.enter_context(broker(folder, "--demo"))
    grpc_path = folder / "grpc.sock"
    command = [sys.executable, "-m", "bench.grpc_server", grpc_path, "broker.demo:digits"]
    stack.enter_context(process(command, "listening"))
    go = stack.enter_context(go_program("loadgen", "-socket", path, "-model", "digits", *_go_data(IMAGES, LABELS)))
    go.name = "Go client"
    return [
        Classifier("Python client", _shared_memory(stack, path), images, labels),
        go,
        Classifier("gRPC, Python", _grpc(stack, grpc_path), images, labels),
    ]


def _go_data(images: Path, labels: Path) -> list[str]:
    return ["-input", "image", "-output", "logits", "-images", str(images), "-labels", str(labels)]


@dataclass
class Classifier:
    """Classifies the images one by one, timing each."""

    name: str
    classify: Callable[[np.ndarray], np.ndarray]
    images: np.ndarray
    labels: np.ndarray
    _next: int = field(default=0)

    def run(self, n: int) -> Sample:
        """Classify the next `n` images."""
        clock = time.perf_counter_ns
        latencies, right = [], 0
        for _ in range(n):
            image, label = self.images[self._next], self.labels[self._next]
            self._next = (self._next + 1) % len(self.images)
            begin = clock()
            logits = self.classify(image)
            latencies.append(clock() - begin)
            right += int(logits.argmax() == label)
        return summarise(latencies, accuracy=right / n)


def _shared_memory(stack: ExitStack, path: str) -> Callable[[np.ndarray], np.ndarray]:
    client = stack.enter_context(ringbroker.connect(path))
    lease = stack.enter_context(stack.enter_context(client.open("digits")).acquire(rows=1))
    slot = lease.inputs["image"]

    def classify(image: np.ndarray) -> np.ndarray:
        slot[:] = image
        return lease.infer(timeout=5)["logits"]

    return classify


def _grpc(stack: ExitStack, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    call = stack.enter_context(grpc.insecure_channel(f"unix:{path}")).unary_unary("/models/digits")
    return lambda image: np.frombuffer(call(image.tobytes()), np.float32)


def _print_table(turns: dict[str, list[Sample]]) -> None:
    rows = [TITLES]
    for name, samples in turns.items():
        p50, p99, per_s, accuracy = (
            float(np.median([getattr(sample, field) for sample in samples]))
            for field in ("p50_ns", "p99_ns", "per_s", "accuracy")
        )
        rows.append((name, f"{accuracy:.1%}", f"{p50 / 1e3:.1f} us", f"{p99 / 1e3:.1f} us", f"{per_s:,.0f}"))
    click.echo()
    for row in rows:
        click.echo("  " + f"{row[0]:<14}" + "".join(f"{cell:>12}" for cell in row[1:]))
    fastest = {name: float(np.median([sample.p50_ns for sample in samples])) for name, samples in turns.items()}
    ours = min(value for name, value in fastest.items() if not name.startswith("gRPC"))
    click.echo(
        f"\n  at p50, gRPC takes {fastest['gRPC, Python'] / ours:.1f} times as long, the model's own run included"
    )
    click.echo(f"  (medians over {ROUNDS} turns; the images and the model are in {IMAGES.parent.relative_to(ROOT)})")


if __name__ == "__main__":
    main()
