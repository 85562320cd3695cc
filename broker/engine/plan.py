"""Plans: how a loaded model is run so that its results land in the output planes.

    prepare (in the loader: file, weights, signature)  ->  Prepared
    Prepared.bind (in the worker: threads, device)     ->  Plan
    Plan.run(inputs, outputs)                              the results are in `outputs` when it returns

Inputs and outputs are views of shared memory (`broker.engine.tensors`). Whatever a plan copies, it writes into its
ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from broker.engine.signature import Shape, open_axes, sample_of
from broker.engine.tensors import pack, rows_first
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature, Tensor

if TYPE_CHECKING:
    from broker.engine.probe import Probe

Tensors = Sequence[torch.Tensor]


class OutputError(RingbrokerError):
    """What the model gave does not fit its planes: OUTPUT_MISMATCH or OUTPUT_TOO_LARGE, raised by plans alone."""


@dataclass(slots=True)
class CopyLedger:
    """Bytes copied since the plan was bound, by stage. Zero unless something was copied."""

    inputs_bytes: int = 0
    """Inputs copied to private memory: uniform values, and all inputs of a model that writes into them."""
    gathered_bytes: int = 0
    """Inputs and outputs of rows that were copied together to run as one batch."""
    outputs_bytes: int = 0
    """Results copied into their planes."""

    def reset(self) -> None:
        """Count from zero again."""
        self.inputs_bytes = self.gathered_bytes = self.outputs_bytes = 0


class Route(NamedTuple):
    """How one output gets into its plane."""

    in_place: bool
    why: str
    """For people: the op that writes into the plane, or what keeps it from doing so."""


class Plan(Protocol):
    """A model, ready to run."""

    ledger: CopyLedger
    routes: tuple[Route, ...]
    """One for each output, in the signature's order."""
    accepts_strides: bool
    """Whether inputs and outputs may be views whose rows lie apart, or permuted ones. Otherwise `run` is given
    contiguous tensors only."""

    def run(self, inputs: Tensors, outputs: Tensors) -> tuple[Shape, ...] | None:
        """Run the model on `inputs` and leave its results in `outputs`, both in the signature's order.

        Returns None where the results have the shapes of `outputs`. An output with an open dim (one that is no
        input's) comes at its maximum; its result is packed at the front of each row, and the shapes of one row of
        every output are returned.

        Raises `OutputError`, or whatever the model raises.
        """


class Prepared(Protocol):
    """A model, read and understood, but not yet run: no thread pool was started and no device touched."""

    @property
    def signature(self) -> Signature:
        """Its inputs and outputs."""

    @property
    def max_batch(self) -> int | None:
        """The most rows that one forward call takes; None where the model sets no bound."""

    @property
    def minima(self) -> Mapping[str, int]:
        """The least sizes of dynamic dims, for the trial runs; a dim that is not in it has none."""

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """The least and the greatest value of inputs, where the file or the model knows them, for the trial runs."""

    @property
    def computed_dims(self) -> frozenset[str]:
        """Open dims that the model computes from its inputs' shapes alone, so that they are one size for all rows."""

    @property
    def survives_fork(self) -> bool:
        """Whether a plan that was bound with one thread can be used in a forked process, there with several."""

    @property
    def state(self) -> str | None:
        """What makes one call depend on another, where the file tells; None where only trial runs can."""

    def bind(self, threads: int, device: str, probe: Probe) -> Plan:
        """Make it ready to run on `device` ("cpu") with `threads` threads inside an op.

        A plan that is more than a call and a copy is compared with that on `probe`'s inputs, and not used where they
        differ.
        """


class CopyingPlan:
    """Calls a function that returns new tensors, and copies each into its plane: one counted copy per output."""

    accepts_strides = True

    def __init__(
        self, function: Callable[..., Any], signature: Signature, why: str = "the model returns new tensors"
    ) -> None:
        self.ledger = CopyLedger()
        self.routes = (Route(False, why),) * len(signature.outputs)
        self._function = function
        self._names = tuple(tensor.name for tensor in signature.outputs)
        self._samples = [sample_of(tensor) for tensor in signature.outputs]
        self._copiers = [_Copier(tensor, signature) for tensor in signature.outputs]
        self._has_open_dims = any(copier.open_axes for copier in self._copiers)

    def run(self, inputs: Tensors, outputs: Tensors) -> tuple[Shape, ...] | None:
        """See `Plan.run`."""
        results = self._function(*inputs)
        if type(results) is torch.Tensor:
            output = outputs[0]
            if len(outputs) == 1 and results.shape == output.shape and results.dtype is output.dtype:
                output.copy_(results)  # most models end here; the general way below costs 0.8 us more
                self.ledger.outputs_bytes += results.nbytes
                return None
        results = as_tuple(results, self._names)
        for index, (copier, result, output) in enumerate(zip(self._copiers, results, outputs, strict=True)):
            copier.copy(result, output, f"outputs[{index}]")
            self.ledger.outputs_bytes += result.nbytes
        if not self._has_open_dims:
            return None
        shapes = tuple(copier.sample_of(result) for copier, result in zip(self._copiers, results, strict=True))
        self._check_shared_dims(shapes)
        return shapes

    def _check_shared_dims(self, shapes: tuple[Shape, ...]) -> None:
        """Dims of one name are of one size, in all outputs."""
        sizes: dict[str, int] = {}
        for index, (sample, shape) in enumerate(zip(self._samples, shapes, strict=True)):
            for dim, size in zip(sample, shape, strict=True):
                if isinstance(dim, str) and sizes.setdefault(dim, size) != size:
                    raise mismatch(f"its {dim!r} is {size}, and {sizes[dim]} in another output", f"outputs[{index}]")


class _Copier:
    """Copies one output's result into its plane."""

    def __init__(self, tensor: Tensor, signature: Signature) -> None:
        self.open_axes = open_axes(tensor, signature)
        self._axis = tensor.batch_axis

    def sample_of(self, result: torch.Tensor) -> Shape:
        """The shape of one row."""
        return tuple(rows_first(result, self._axis).shape[1:])

    def copy(self, result: Any, output: torch.Tensor, path: str) -> None:
        """Copy, at the front of each row where the result is smaller than the plane; raises `OutputError`."""
        if not isinstance(result, torch.Tensor) or result.dtype != output.dtype or not self._fits(result, output):
            raise mismatch(f"the model gave {describe(result)}, its signature says {describe(output)}", path)
        if not self.open_axes:
            output.copy_(result)
            return
        rows = rows_first(output, self._axis)
        sample = self.sample_of(result)
        needed_bytes = prod(sample) * result.element_size()
        if any(size > most for size, most in zip(sample, rows.shape[1:], strict=True)):
            raise OutputError(
                Code.OUTPUT_TOO_LARGE,
                f"its row of {list(sample)} needs {needed_bytes} bytes; the plane's {list(rows.shape[1:])} is smaller",
                path,
                needed_bytes=needed_bytes,
            )
        pack(rows, sample).copy_(rows_first(result, self._axis))

    def _fits(self, result: torch.Tensor, output: torch.Tensor) -> bool:
        return result.dim() == output.dim() and all(
            size == expected or axis in self.open_axes
            for axis, (size, expected) in enumerate(zip(result.shape, output.shape, strict=True))
        )


class Unbound:
    """What is known of a plan that has to be bound again in every worker."""

    def __init__(self, plan: Plan) -> None:
        self.ledger = CopyLedger()
        self.routes = plan.routes
        self.accepts_strides = plan.accepts_strides

    def run(self, inputs: Tensors, outputs: Tensors) -> tuple[Shape, ...] | None:
        """Never called."""
        raise NotImplementedError


class PrivateInputs:
    """Gives another plan a counted copy of the inputs: for a model that writes into them."""

    def __init__(self, plan: Plan) -> None:
        self.ledger = plan.ledger
        self.routes = plan.routes
        self.accepts_strides = plan.accepts_strides
        self._plan = plan

    def run(self, inputs: Tensors, outputs: Tensors) -> tuple[Shape, ...] | None:
        """See `Plan.run`."""
        copies = [tensor.clone() for tensor in inputs]
        self.ledger.inputs_bytes += sum(tensor.nbytes for tensor in copies)
        return self._plan.run(copies, outputs)


def as_tuple(results: Any, names: tuple[str, ...]) -> Sequence[Any]:
    """What a model returned (a tensor, a tuple or list in order, or a mapping by name) as one value per output.

    Raises `OutputError` OUTPUT_MISMATCH where outputs are missing or too many.
    """
    if isinstance(results, torch.Tensor):
        results = (results,)
    elif isinstance(results, Mapping):
        missing = [name for name in names if name not in results]
        if missing:
            raise mismatch(f"the model gave no output {missing[0]!r}", "outputs")
        results = [results[name] for name in names]
    if not isinstance(results, (tuple, list)) or len(results) != len(names):
        count = f"{len(results)} outputs" if isinstance(results, (tuple, list)) else f"a {type(results).__name__}"
        raise mismatch(f"the model gave {count}, its signature says {len(names)}", "outputs")
    return results


def mismatch(text: str, path: str) -> OutputError:
    """The error for results that are not what the signature says."""
    return OutputError(Code.OUTPUT_MISMATCH, text, path)


def describe(value: object) -> str:
    """A tensor's dtype and shape, as `float32[1, 8]`; another value's type."""
    if not isinstance(value, torch.Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
