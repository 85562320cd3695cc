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
from typing import Any, Protocol

import torch

from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature

Tensors = Sequence[torch.Tensor]


@dataclass(slots=True)
class CopyLedger:
    """Bytes copied since the plan was bound, by stage. Zero unless something was copied."""

    outputs_bytes: int = 0


class Plan(Protocol):
    """A model, ready to run."""

    ledger: CopyLedger

    def run(self, inputs: Tensors, outputs: Tensors) -> None:
        """Run the model on `inputs` and leave its results in `outputs`, both in the signature's order.

        Raises `RingbrokerError` OUTPUT_MISMATCH, or whatever the model raises.
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
        """The least sizes of dynamic dims, for the trial run; a dim that is not in it has none."""

    def bind(self, threads: int, device: str) -> Plan:
        """Make it ready to run on `device` ("cpu") with `threads` threads inside an op."""


class CopyingPlan:
    """Calls a function that returns new tensors, and copies each into its plane: one counted copy per output."""

    def __init__(self, function: Callable[..., Any], signature: Signature) -> None:
        self.ledger = CopyLedger()
        self._function = function
        self._names = tuple(tensor.name for tensor in signature.outputs)

    def run(self, inputs: Tensors, outputs: Tensors) -> None:
        """See `Plan.run`."""
        results = self._function(*inputs)
        if type(results) is torch.Tensor:
            output = outputs[0]
            if len(outputs) == 1 and results.shape == output.shape and results.dtype is output.dtype:
                output.copy_(results)  # most models end here; the general way below costs 0.8 us more
                self.ledger.outputs_bytes += results.nbytes
                return
            results = (results,)
        elif isinstance(results, torch.Tensor):  # a subclass: a parameter, say
            results = (results,)
        elif isinstance(results, Mapping):
            results = self._by_name(results)
        if not isinstance(results, (tuple, list)) or len(results) != len(outputs):
            raise _mismatch(f"the model gave {_count(results)}, its signature says {len(outputs)}", "outputs")
        for index, (result, output) in enumerate(zip(results, outputs, strict=True)):
            if not isinstance(result, torch.Tensor) or result.shape != output.shape or result.dtype != output.dtype:
                raise _mismatch(
                    f"the model gave {_describe(result)}, its signature says {_describe(output)}", f"outputs[{index}]"
                )
            output.copy_(result)
            self.ledger.outputs_bytes += result.nbytes

    def _by_name(self, results: Mapping[str, Any]) -> list[Any]:
        missing = [name for name in self._names if name not in results]
        if missing:
            raise _mismatch(f"the model gave no output {missing[0]!r}", "outputs")
        return [results[name] for name in self._names]


def _mismatch(text: str, path: str) -> RingbrokerError:
    return RingbrokerError(Code.OUTPUT_MISMATCH, text, path)


def _count(results: object) -> str:
    return f"{len(results)} outputs" if isinstance(results, (tuple, list)) else f"a {type(results).__name__}"


def _describe(value: object) -> str:
    if not isinstance(value, torch.Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
