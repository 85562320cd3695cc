"""What trial runs find out about a model at load (DESIGN section 6).

Rows run alone are the truth. A batch axis is proven when rows of a batch give what they give alone; the model accepts
strides when rows that lie apart do. Whatever is not proven is not used: the model is served more slowly, never wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from broker.engine import signature as signatures
from broker.engine.compare import disagreement
from broker.engine.config import ModelConfig
from broker.engine.failure import logged, told
from broker.engine.plan import Plan, Prepared
from broker.engine.probe import Probe
from broker.engine.signature import Shape
from broker.engine.tensors import pack, rows_first, spread
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature, Tensor

_TRIAL_BYTES = 256 * 2**20  # of the inputs and outputs of the largest batch; larger ones gain nothing
_FURTHER_BATCH = 4  # rows at sizes of the dynamic dims that are not the smallest: enough for a row in the middle
_UNLIKE_ANSWERS = "the same input twice gave different answers: it keeps state, or draws random numbers"

Arrange = Callable[[torch.Tensor, int | None], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found out."""

    max_batch: int
    """The most rows of one forward call."""
    batch: str
    """Why so many, for people."""
    state: str | None
    """Why the same input need not give the same answer, for people: state inside, or random numbers. None: it does."""
    accepts_strides: bool
    """Whether rows that lie apart, or a batch axis that is not first, may be given as they are."""
    copies_apart: bool
    """Whether such rows, given so, had results that were copied."""

    @property
    def is_repeatable(self) -> bool:
        """Whether the same input gives the same answer."""
        return self.state is None


class Trial:
    """Runs a plan on probe inputs."""

    def __init__(self, plan: Plan, prepared: Prepared, probe: Probe, config: ModelConfig) -> None:
        self._plan = plan
        self._prepared = prepared
        self._signature = prepared.signature
        self._probe = probe
        self._config = config
        self._name = config.name

    def prove(self) -> Proof:
        """Try everything; raises `RingbrokerError` SIGNATURE_MISMATCH, or INPUT_MODIFIED."""
        answers = [self._try_alone(sizes) for sizes in self._probe.sizes()]  # all sizes, whatever the first one gave
        state = self._prepared.state or (None if all(answers) else _UNLIKE_ANSWERS)
        max_batch, why = self._bound_batch(state)
        if max_batch > 1 and (lie := self._refute_batch(max_batch)) is not None:
            max_batch, why = 1, lie
        tensors = (*self._signature.inputs, *self._signature.outputs)
        matters = state is None and self._plan.accepts_strides and any(map(signatures.may_lie_apart, tensors))
        self._plan.ledger.reset()
        accepts_strides = matters and self._refute_strides(max_batch) is None
        copies_apart = accepts_strides and self._plan.ledger.outputs_bytes > 0
        return Proof(max_batch, why, state, accepts_strides, copies_apart)

    def warm(self) -> None:
        """Run one row of each of the sizes: what is made at a first run is made now."""
        for sizes in self._probe.sizes():
            self._run(self._probe.inputs(1, sizes), 1, sizes)

    def _try_alone(self, sizes: Mapping[str, int]) -> bool:
        """Run one row, twice; say whether the answers were the same."""
        try:
            inputs = self._probe.inputs(1, sizes)
            before = [tensor.clone() for tensor in inputs]
            first = self._run(inputs, 1, sizes)
            for tensor, was, now in zip(self._signature.inputs, before, inputs, strict=True):
                if disagreement(now, was, 0.0) is not None:
                    raise RingbrokerError(
                        Code.INPUT_MODIFIED,
                        "the model writes into this input, which is the client's memory; serve it with private inputs, "
                        "on a counted copy, or mend it",
                        f"{self._name}.{tensor.name}",
                    )
            again = self._run(inputs, 1, sizes)
        except RingbrokerError as error:
            if error.code == Code.INPUT_MODIFIED:
                raise
            text = error.text
            if error.code == Code.OUTPUT_TOO_LARGE:
                dims = ", ".join(sorted(signatures.open_dims(self._signature)))
                text += f"; raise --maximum {dims}, or give {self._range_option()} for a realistic trial"
            path = f"{self._name}.{error.path}" if error.path else self._name
            raise RingbrokerError(Code.SIGNATURE_MISMATCH, text, path) from error
        except (Exception, SystemExit) as error:
            text = f"a trial run of one row raised {logged(error, self._name)}"
            text += f"; if its inputs' values were wrong, give {self._range_option()}"
            raise RingbrokerError(Code.SIGNATURE_MISMATCH, text, self._name) from error
        return all(disagreement(b, a) is None for a, b in zip(first, again, strict=True))

    def _bound_batch(self, state: str | None) -> tuple[int, str]:
        """The most rows that anybody allows, and who."""
        if state is not None:
            return 1, state
        if names := signatures.without_batch_axis(self._signature, self._config.uniform):
            return 1, f"{', '.join(names)} without a batch axis{_advice(self._signature)}"
        if of_values := sorted(signatures.open_dims(self._signature) - self._prepared.computed_dims):
            return 1, f"the size of {', '.join(of_values)} depends on values"
        limit = min(self._config.max_batch, self._prepared.max_batch or self._config.max_batch)
        if limit == 1:
            return 1, "max_batch is 1"
        sizes = self._probe.sizes()[0]
        row_bytes = sum(tensor.nbytes for tensor in (*self._probe.inputs(1, sizes), *self._probe.outputs(1, sizes)))
        why = "proven: rows of a batch equal rows alone"
        if limit * row_bytes > _TRIAL_BYTES:
            limit = max(1, _TRIAL_BYTES // row_bytes)
            most = f"{_TRIAL_BYTES >> 20} MiB" + (" at the smallest sizes of its dynamic dims" if sizes else "")
            why = f"rows are large: no batch of more than {most} is tried, or made"
        if limit > 1 and not self._probe.has_unlike_rows(min(limit, 3)):
            return 1, f"the trial's rows are all equal: give {self._range_option()}"
        return limit, why

    def _range_option(self) -> str:
        """The option for an input's values; of the first one with rows, where there are several."""
        inputs = sorted(self._signature.inputs, key=lambda tensor: tensor.batch_axis is None)
        return f"--range {inputs[0].name}=LOW..HIGH"

    def _refute_batch(self, max_batch: int) -> str | None:
        """Say what is wrong with the batch axis; None where nothing was found. Runs every power of two up to
        `max_batch`, which also warms those sizes up, and at further sizes of the dynamic dims the first few.
        """
        first, *others = self._probe.sizes()
        trials = [(first, max_batch)] + [(sizes, min(max_batch, _FURTHER_BATCH)) for sizes in others]
        for sizes, most in trials:
            alone: dict[int, list[torch.Tensor]] = {}
            for rows in _batch_sizes(most):
                if (wrong := self._refute(rows, sizes, alone)) is not None:
                    return wrong
        return None

    def _refute_strides(self, max_batch: int) -> str | None:
        found = (self._refute(min(2, max_batch), sizes, {}, spread) for sizes in self._probe.sizes())
        return next((wrong for wrong in found if wrong is not None), None)

    def _refute(
        self, rows: int, sizes: Mapping[str, int], alone: dict[int, list[torch.Tensor]], arrange: Arrange | None = None
    ) -> str | None:
        """Say how rows of a batch differ from the same rows alone, whose outputs are kept in `alone`."""
        try:
            inputs = self._probe.inputs(rows, sizes)
            together = self._run(inputs, rows, sizes, arrange)
        except (Exception, SystemExit) as error:
            return f"a batch of {rows} raised {told(error)}"
        for row in sorted({0, 1, 2, rows // 2, rows - 1} & set(range(rows))):
            if row not in alone:
                single = [_row(value, each, row) for each, value in zip(self._signature.inputs, inputs, strict=True)]
                try:
                    alone[row] = self._run(single, 1, sizes)
                except (Exception, SystemExit) as error:
                    return f"row {row} of a batch of {rows}, alone, raised {told(error)}"
            for tensor, found, expected in zip(self._signature.outputs, together, alone[row], strict=True):
                wrong = disagreement(_row(found, tensor, row), expected, self._config.batch_tolerance)
                if wrong is not None:
                    return f"row {row} of a batch of {rows} is not what it is alone: {tensor.name} {wrong}"
        return None

    def _run(
        self, inputs: Sequence[torch.Tensor], rows: int, sizes: Mapping[str, int], arrange: Arrange | None = None
    ) -> list[torch.Tensor]:
        """Run, and return the outputs at the sizes that they came in."""
        outputs = self._probe.outputs(rows, sizes)
        ins = list(self._arranged(inputs, self._signature.inputs, arrange))
        outs = list(self._arranged(outputs, self._signature.outputs, arrange))
        shapes = self._plan.run(ins, outs)
        if shapes is None:
            return outs
        return [
            _cut(output, tensor, shape)
            for output, tensor, shape in zip(outs, self._signature.outputs, shapes, strict=True)
        ]

    def _arranged(
        self, tensors: Sequence[torch.Tensor], declared: Sequence[Tensor], arrange: Arrange | None
    ) -> Iterator[torch.Tensor]:
        for value, tensor in zip(tensors, declared, strict=True):
            yield value.contiguous() if arrange is None else arrange(value, tensor.batch_axis)


def _advice(signature: Signature) -> str:
    """How to get a batch axis, where the first dims look like one that was fixed at export."""
    firsts = [tensor for tensor in signature.inputs if tensor.shape]
    if not firsts or any(tensor.shape[0] != 1 for tensor in firsts) or signatures.open_dims(signature):
        return ""
    dynamic = ", ".join(f"{tensor.name!r}: {{0: Dim('batch')}}" for tensor in firsts)
    return (
        "; if the first dim, which is fixed at 1, is the batch, export it as a dynamic one: an example of 2 rows, and "
        f"torch.export's dynamic_shapes={{{dynamic}}}"
    )


def _batch_sizes(max_batch: int) -> list[int]:
    return [*(1 << power for power in range(1, max_batch.bit_length()) if 1 << power < max_batch), max_batch]


def _row(value: torch.Tensor, tensor: Tensor, row: int) -> torch.Tensor:
    """One row, its batch axis kept; a tensor without one is every row's."""
    return value if tensor.batch_axis is None else value.narrow(tensor.batch_axis, row, 1)


def _cut(output: torch.Tensor, tensor: Tensor, sample: Shape) -> torch.Tensor:
    cut = pack(rows_first(output, tensor.batch_axis), sample)
    return cut[0] if tensor.batch_axis is None else cut.movedim(0, tensor.batch_axis)
