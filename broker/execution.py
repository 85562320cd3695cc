"""Execution: how a batch becomes forward calls: as a slice of every plane, gathered, or row by row (DESIGN section 5).

A slice whose rows lie apart (they are shorter than the ring's maximum, or the batch axis is not first) is given to the
model as it is only if the model was seen to accept that.
"""

from __future__ import annotations

from typing import NamedTuple

from broker.batcher import Batch, Form
from broker.engine.models import Model
from broker.engine.plan import Tensors
from broker.engine.signature import Shape
from broker.engine.tensors import are_contiguous, private_tensor
from broker.ring import Ring


class Outcome(NamedTuple):
    """What a run of a batch says."""

    shapes: tuple[Shape, ...] | None
    """The shapes of one row of every output, where they are not those of the batch's form."""
    batch_rows: int
    """The most rows that were in one forward call."""


def execute(batch: Batch) -> Outcome:
    """Run the batch; the results are in its rows. Raises what `Plan.run` raises."""
    model = batch.model
    if batch.gathered:
        runs = (batch, *batch.gathered)
        model.staging.run(model.plan, [_views(model, run.ring, run.slot, run.rows, run.form) for run in runs])
        return Outcome(None, sum(run.rows for run in runs))
    inputs, outputs = _views(model, batch.ring, batch.slot, batch.rows, batch.form)
    if batch.rows == 1 or model.proof.accepts_strides or are_contiguous(inputs, outputs):
        return Outcome(model.plan.run(inputs, outputs), batch.rows)
    if model.gathers:
        model.staging.run(model.plan, [(inputs, outputs)])
        return Outcome(None, batch.rows)
    shapes = None  # every row's: sizes that depend on values have a batch of 1
    for slot in range(batch.slot, batch.slot + batch.rows):
        shapes = model.plan.run(*_views(model, batch.ring, slot, 1, batch.form))
    return Outcome(shapes, 1)


def _views(model: Model, ring: Ring, slot: int, rows: int, form: Form | None) -> tuple[Tensors, Tensors]:
    """Views of the rows; uniform inputs are private, of the values that were read when the request came."""
    if form is None:
        return ring.inputs.rows(slot, rows), ring.outputs.rows(slot, rows)
    inputs = list(ring.inputs.rows(slot, rows, form.inputs))
    for index, value in zip(model.uniform, form.uniform, strict=True):
        inputs[index] = private_tensor(value, ring.in_planes[index].dtype, form.inputs[index])
        model.plan.ledger.inputs_bytes += len(value)
    return inputs, ring.outputs.rows(slot, rows, form.outputs)
