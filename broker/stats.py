"""Counters: what was asked, answered, refused, run and copied, and how long it took.

They are counted where it happens, into a page of 64-bit numbers. A worker's page is shared with the supervisor, which
reads it at any time: also while the worker is inside a model, and after its death. Nobody else maps it, and nothing in
it steers anything but the detection of a worker that hangs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ringbuf.errors import Code

if TYPE_CHECKING:
    from broker.batcher import Batch
    from broker.engine.models import Model

# The first numbers of a page
BUSY_SINCE_NS, BUSY_MODEL, ALIVE_NS, REQUESTS, IN_FLIGHT, SESSIONS, DROPPED_REQUESTS = range(7)
"""When the batch that runs was started, 0 while none runs; the number of its model, or of the last one's; when the loop
last turned, to a second, or a batch ended; sums.
"""

_CODES = {int(code): DROPPED_REQUESTS + 1 + index for index, code in enumerate(Code)}
_MODELS_AT = DROPPED_REQUESTS + 1 + len(_CODES)


class ModelCounters(NamedTuple):
    """What one version of a model did; `queue_ns` and `compute_ns` are sums, the bytes those of its copy ledger."""

    results: int = 0
    rows: int = 0
    batches: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    inputs_bytes: int = 0
    gathered_bytes: int = 0
    outputs_bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The counters, with the means that people ask for first."""
        results, batches = max(self.results, 1), max(self.batches, 1)
        return {
            "results": self.results,
            "rows": self.rows,
            "batches": self.batches,
            "mean_batch_rows": round(self.rows / batches, 2),
            "copied": {
                "inputs_bytes": self.inputs_bytes,
                "gathered_bytes": self.gathered_bytes,
                "outputs_bytes": self.outputs_bytes,
            },
            "queue_ns": self.queue_ns,
            "compute_ns": self.compute_ns,
            "mean_queue_us": round(self.queue_ns / results / 1e3, 1),
            "mean_compute_us": round(self.compute_ns / batches / 1e3, 1),
        }


_PER_MODEL = len(ModelCounters._fields)


def page_bytes(models: int) -> int:
    """The size of a page that counts for so many models."""
    return 8 * (_MODELS_AT + _PER_MODEL * models)


class Stats:
    """A page of counters. `page` is 64-bit numbers, indexed by the names above. Workers that are gone are counted
    beside it by the supervisor, by pool.
    """

    def __init__(self, models: int = 0, memory: memoryview | None = None) -> None:
        """Count into `memory` (`page_bytes(models)` long, shared with whoever made it), or into memory of its own."""
        self.page = (memory or memoryview(bytearray(page_bytes(models)))).cast("Q")
        self.lost_workers: Counter[str] = Counter()
        """Those that ended by themselves, or by a signal of somebody else."""
        self.hung_workers: Counter[str] = Counter()
        """Those that the broker ended because they hung."""

    def count_error(self, code: int) -> None:
        """Count an ERROR."""
        self.page[_CODES[code]] += 1

    def count_batch(self, model: Model, batch: Batch, batch_rows: int, started_ns: int, finished_ns: int) -> None:
        """Count a batch of `model` that was answered; `batch_rows` of its rows went into one forward call."""
        page, at, ledger = self.page, _MODELS_AT + _PER_MODEL * model.number, model.plan.ledger
        for run in (batch, *batch.gathered):
            requests = run.requests
            page[at] += len(requests)
            page[at + 1] += run.rows
            page[at + 3] += len(requests) * started_ns - sum([request.received_ns for request in requests])
        page[at + 2] += 1 if batch_rows > 1 else batch.rows
        page[at + 4] += finished_ns - started_ns
        page[at + 5] = ledger.inputs_bytes
        page[at + 6] = ledger.gathered_bytes
        page[at + 7] = ledger.outputs_bytes

    def absorb(self, other: Stats) -> None:
        """Add the sums of another page; those of models where both have them."""
        for index in range(REQUESTS, min(len(self.page), len(other.page))):
            if index != IN_FLIGHT:
                self.page[index] += other.page[index]
        self.lost_workers += other.lost_workers
        self.hung_workers += other.hung_workers

    def of_model(self, model: int) -> ModelCounters:
        """What the model with number `model` did."""
        at = _MODELS_AT + _PER_MODEL * model
        return ModelCounters(*self.page[at : at + _PER_MODEL])


def errors_as_dict(pages: Sequence[Stats]) -> dict[str, int]:
    """The errors of all pages, by name; those that never came are left out."""
    sums = {Code(code).name: sum(stats.page[at] for stats in pages) for code, at in _CODES.items()}
    return {name: count for name, count in sums.items() if count}


def sum_of(counters: Iterable[ModelCounters]) -> ModelCounters:
    """What several workers did with one model."""
    return ModelCounters(*map(sum, zip(*counters, strict=True)))


def total(pages: Sequence[Stats], index: int) -> int:
    """One number, of all pages."""
    return sum(stats.page[index] for stats in pages)
