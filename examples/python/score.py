"""Score rows at a high rate with a small perceptron, and compare with the plain one.

    python -m examples.models score
    broker serve score=build/examples/models/score/1
    python examples/python/score.py [--socket PATH] [--cases DIR] [--requests N]

Twice: from several threads, each with a lease of one row that it uses again and again, as a service scores what comes
in; and in requests of 64 rows, as a job scores what is there.
"""

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import ringbroker

CASES = Path(__file__).resolve().parents[2] / "build" / "examples"
TOLERANCE = 1e-5


def one_by_one(model: ringbroker.Model, rows: np.ndarray, requests: int, threads: int = 8) -> np.ndarray:
    """The scores of rows that come again and again, each in a request of its own."""
    scores = np.zeros(len(rows), np.float32)

    def work(first: int) -> None:
        with model.acquire(rows=1) as lease:
            features = lease.inputs["features"][0]  # 64 floats in shared memory, for all of this thread's requests
            for request in range(first, requests, threads):
                features[:] = rows[request % len(rows)]
                scores[request % len(rows)] = lease.infer(timeout=10)["score"][0, 0]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return scores


def in_blocks(model: ringbroker.Model, rows: np.ndarray, requests: int, block: int = 64) -> np.ndarray:
    """The same, 64 rows to a request."""
    scores = np.zeros(len(rows), np.float32)
    for first in range(0, requests, block):
        at = (first + np.arange(min(block, requests - first))) % len(rows)
        with model.acquire(rows=len(at)) as lease:
            np.take(rows, at, axis=0, out=lease.inputs["features"])
            scores[at] = lease.infer(timeout=10)["score"][:, 0]
    return scores


def area_under_curve(labels: np.ndarray, scores: np.ndarray) -> float:
    """How often a row of the rare class scores higher than one of the other; no two scores are equal here."""
    ranks = np.empty(len(scores))
    ranks[scores.argsort()] = np.arange(1, len(scores) + 1)
    positives = labels.sum()
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Score rows through shared memory, and say how many a second.")
    parser.add_argument("--socket", help="the broker's socket; by default where `broker serve` puts it")
    parser.add_argument("--cases", type=Path, default=CASES, help="the folder that `python -m examples.models` made")
    parser.add_argument("--requests", type=int, default=20_000, help="rows to score, at least 1000")
    options = parser.parse_args()
    cases = json.loads((options.cases / "score.json").read_text())
    rows, labels = np.array(cases["rows"], np.float32), np.array(cases["labels"])
    plain = np.array(cases["scores"], np.float32)

    ways: tuple[Callable[..., np.ndarray], ...] = (one_by_one, in_blocks)
    with ringbroker.connect(options.socket) as client, client.open("score", slots=64) as model:
        for way in ways:
            start = time.perf_counter()
            scores = way(model, rows, options.requests)
            rate = options.requests / (time.perf_counter() - start)
            difference, area = float(np.abs(scores - plain).max()), area_under_curve(labels, scores)
            name = way.__name__.replace("_", " ")
            print(f"{name}: {rate:,.0f} rows a second, AUC {area:.4f}, difference {difference:.1e}")
            if difference > TOLERANCE or area < 0.9:
                raise SystemExit("score: that is not what the plain perceptron says")


if __name__ == "__main__":
    main()
