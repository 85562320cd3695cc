"""Counters: what was asked, answered, refused, run and copied, and how long it took.

Plain integers, counted where it happens.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from broker.batcher import Batch
from ringbuf.errors import name_of


@dataclass(slots=True)
class ModelStats:
    """What one model did since the broker started; `queue_ns` and `compute_ns` are sums."""

    results: int = 0
    rows: int = 0
    batches: int = 0
    queue_ns: int = 0
    compute_ns: int = 0

    def count(self, batch: Batch, batch_rows: int, started_ns: int, finished_ns: int) -> None:
        """Count a batch that was answered; `batch_rows` of its rows went into one forward call."""
        for run in (batch, *batch.gathered):
            requests = run.requests
            self.results += len(requests)
            self.rows += run.rows
            self.queue_ns += len(requests) * started_ns - sum(request.received_ns for request in requests)
        self.batches += 1 if batch_rows > 1 else batch.rows
        self.compute_ns += finished_ns - started_ns


@dataclass(slots=True)
class Stats:
    """What the broker did since it started."""

    requests: int = 0
    sessions: int = 0
    dropped_requests: int = 0
    errors: Counter[int] = field(default_factory=Counter)
    models: dict[str, ModelStats] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The broker's own counters; errors by name."""
        return {
            "requests": self.requests,
            "sessions": self.sessions,
            "dropped_requests": self.dropped_requests,
            "errors": {name_of(code): count for code, count in sorted(self.errors.items())},
        }


def model_as_dict(stats: ModelStats, copied: dict[str, int]) -> dict[str, Any]:
    """One model's counters, with the means that people ask for first; `copied` is its copy ledger."""
    results, batches = max(stats.results, 1), max(stats.batches, 1)
    return {
        "results": stats.results,
        "rows": stats.rows,
        "batches": stats.batches,
        "mean_batch_rows": round(stats.rows / batches, 2),
        "copied": copied,
        "queue_ns": stats.queue_ns,
        "compute_ns": stats.compute_ns,
        "mean_queue_us": round(stats.queue_ns / results / 1e3, 1),
        "mean_compute_us": round(stats.compute_ns / batches / 1e3, 1),
    }
