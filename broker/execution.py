"""Execution: how a batch becomes forward calls: as a slice of every plane, gathered, or row by row (DESIGN section 5).

A slice whose rows lie apart (they are shorter than the ring's maximum, or the batch axis is not first) is given to the
model as it is only if the model was seen to accept that.
"""

from __future__ import annotations

from typing import NamedTuple

from broker.batcher import Batch
from broker.engine.plan import Shape, Tensors
from broker.engine.tensors import are_contiguous, private_tensor


class Outcome(NamedTuple):
    """What a run of a batch says."""

    shapes: tuple[Shape, ...] | None
    """The shapes of one row of every output, where they are not those of the batch's form."""
    batch_rows: int
    """The most rows that were in one forward call."""


def execute(batch: Batch) -> Outcome:
    """Run the batch; the results are in its rows. Raises what `Plan.run` raises."""
    model = batch.ring.model
    if batch.gathered:
        runs = (batch, *batch.gathered)
        model.staging.run(model.plan, [_views(run) for run in runs])
        return Outcome(None, sum(run.rows for run in runs))
    inputs, outputs = _views(batch)
    if batch.rows == 1 or model.proof.accepts_strides or are_contiguous(inputs, outputs):
        return Outcome(model.plan.run(inputs, outputs), batch.rows)
    if model.gathers:
        model.staging.run(model.plan, [(inputs, outputs)])
        return Outcome(None, batch.rows)
    shapes = None  # every row's: sizes that depend on values have a batch of 1
    for slot in range(batch.slot, batch.slot + batch.rows):
        shapes = model.plan.run(*_views(Batch(batch.ring, slot, 1, batch.form, [])))
    return Outcome(shapes, 1)


def _views(run: Batch) -> tuple[Tensors, Tensors]:
    """Views of the run's rows; uniform inputs are private, of the values that were read when the request came."""
    ring, form = run.ring, run.form
    if form is None:
        return ring.inputs.rows(run.slot, run.rows), ring.outputs.rows(run.slot, run.rows)
    inputs = list(ring.inputs.rows(run.slot, run.rows, form.inputs))
    for index, value in zip(ring.model.uniform, form.uniform, strict=True):
        inputs[index] = private_tensor(value, ring.in_planes[index].dtype, form.inputs[index])
        ring.model.plan.ledger.inputs_bytes += len(value)
    return inputs, ring.outputs.rows(run.slot, run.rows, form.outputs)
