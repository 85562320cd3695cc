"""The worker: one thread that runs to completion. Receive everything that is there, run one batch, answer, and again.

While a model runs, requests gather in the sockets; so under load the next batch forms by itself, and without load
nothing waits, but where the operator asked for it (`--max-queue-delay-us`). There is no second thread of ours, and no
queue to one.

One request's way: `Loop.poll` reads it, `Session.receive` decodes and checks it, `Batcher.start` makes it part of a
batch, `Worker._run` gives the model views of its rows, `Session.answer` writes the RESULT, `Loop.flush` sends it.
"""

from __future__ import annotations

import gc
import logging
import traceback
from collections.abc import Callable

from broker.batcher import Batch, Batcher, Request
from broker.engine.models import inference_mode
from broker.engine.plan import OutputError
from broker.execution import Outcome, execute
from broker.loop import Loop
from broker.stats import ALIVE_NS, BUSY_MODEL, BUSY_SINCE_NS, Stats
from ringbuf.errors import Code, RingbrokerError

log = logging.getLogger("broker.worker")

_ALONE = Outcome(None, 1)
_IDLE_NS = 10**9  # a second without a batch: time to collect garbage
_GC_THRESHOLD = 100_000  # a backstop for a worker that is never idle


class Worker:
    """Runs the batches of all sessions on one loop."""

    def __init__(self, loop: Loop, batcher: Batcher, stats: Stats, clock_ns: Callable[[], int]) -> None:
        self.is_stopping = False
        self._stats = stats
        self._page = stats.page
        self._loop = loop
        self._batcher = batcher
        self._clock_ns = clock_ns
        self._collect_at_ns: int | None = None
        loop.on_tick.append(self._tick)

    def stop(self) -> None:
        """Let `run` end after what it does now."""
        self.is_stopping = True

    def run(self) -> None:
        """Serve until `stop`."""
        gc.collect()
        gc.freeze()  # the models never become garbage
        gc.set_threshold(_GC_THRESHOLD, 50, 100)
        batcher, poll = self._batcher, self._loop.poll
        with inference_mode():
            while not self.is_stopping:
                poll(batcher.due_ns())
                if batcher.has_waiting:
                    batch = batcher.start(self._clock_ns())
                    if batcher.expired:
                        self._answer_expired()
                    if batch is not None:
                        self._run(batch)
                        batch = None  # or the last ring would stay mapped after its CLOSE, until the next batch

    def _run(self, batch: Batch) -> None:
        """Run one batch and answer its requests; one that fails with several in it is run again, one by one."""
        ring, model, page = batch.ring, batch.model, self._page
        page[BUSY_MODEL] = model.number  # for the log, if this is its end (20 ns)
        page[BUSY_SINCE_NS] = started_ns = self._clock_ns()
        try:
            if batch.rows == 1 and batch.form is None and not batch.gathered:  # the usual one, without a call more
                shapes = model.plan.run(ring.inputs.single[batch.slot], ring.outputs.single[batch.slot])
                outcome = _ALONE if shapes is None else Outcome(shapes, 1)
            else:
                outcome = execute(batch)
        except BaseException as error:  # signals set a flag and raise nothing, so all of it is the model's
            page[ALIVE_NS] = self._clock_ns()
            page[BUSY_SINCE_NS] = 0
            self._failed(batch, error)
            return
        page[ALIVE_NS] = finished_ns = self._clock_ns()  # or, idle, it would look as old as its last tick (30 ns)
        page[BUSY_SINCE_NS] = 0
        session = batch.requests[0].session
        session.answer(batch, outcome, started_ns, finished_ns)
        if batch.gathered:
            self._answer_gathered(batch, outcome, started_ns, finished_ns)
        self._loop.flush(session.connection)
        # The client has its answers; the bookkeeping no longer keeps it waiting (0.4 us), and nothing is read
        self._batcher.finish(batch)
        self._stats.count_batch(model, batch, outcome.batch_rows, started_ns, finished_ns)
        self._collect_at_ns = finished_ns + _IDLE_NS

    def _answer_gathered(self, batch: Batch, outcome: Outcome, started_ns: int, finished_ns: int) -> None:
        """Answer the further runs, and send all but the first session's: one send for each."""
        sessions = {run.requests[0].session: None for run in batch.gathered}
        for run in batch.gathered:
            run.requests[0].session.answer(run, outcome, started_ns, finished_ns)
        sessions.pop(batch.requests[0].session, None)
        for session in sessions:
            self._loop.flush(session.connection)

    def _failed(self, batch: Batch, error: BaseException) -> None:
        """Answer with the error; among several requests, find out which it belongs to."""
        requests = [request for run in (batch, *batch.gathered) for request in run.requests]
        if len(requests) > 1:
            for request in requests:
                self._run(Batch(request.model, request.ring, request.slot, request.rows, request.form, [request]))
            return
        request = batch.requests[0]
        self._batcher.finish(batch)
        # A RingbrokerError of another kind is the model's own: it may be the client of another broker.
        told = error if isinstance(error, OutputError) else _model_failed(error)
        log.error(
            "model failed",
            extra={
                "model": batch.model.name,
                "version": batch.model.version,
                "session": request.session.number,
                "trace": request.trace,
                "traceback": "".join(traceback.format_exception(error)),
            },
        )
        # The traceback's frames hold the inputs, and an error that holds itself holds them until garbage is collected.
        traceback.clear_frames(error.__traceback__)
        self._collect_at_ns = self._clock_ns() + _IDLE_NS
        self._refuse(request, told)

    def _answer_expired(self) -> None:
        expired = self._batcher.expired
        for request in expired:
            self._refuse(request, RingbrokerError(Code.DEADLINE_EXCEEDED, "the deadline passed before it was run"))
        expired.clear()

    def _refuse(self, request: Request, error: RingbrokerError) -> None:
        request.session.refuse_request(request, error)
        self._loop.flush(request.session.connection)

    def _tick(self, now_ns: int) -> None:
        self._page[ALIVE_NS] = now_ns
        if self._collect_at_ns is not None and now_ns >= self._collect_at_ns:
            self._collect_at_ns = None
            gc.collect()


def _model_failed(error: BaseException) -> RingbrokerError:
    return RingbrokerError(Code.MODEL_FAILED, f"the model raised {type(error).__name__}")
