"""Gathering: rows that are not neighbours, copied together to run as one batch, and their results copied back."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from broker.engine.plan import Plan, Tensors
from ringbuf.wire.messages import Signature


class Staging:
    """Private memory for the batches of one model. It grows to the largest batch that was gathered, and stays."""

    def __init__(self, signature: Signature) -> None:
        self._in_axes = tuple(tensor.batch_axis for tensor in signature.inputs)
        self._out_axes = tuple(tensor.batch_axis or 0 for tensor in signature.outputs)
        self._memory: dict[int, torch.Tensor] = {}

    def run(self, plan: Plan, parts: Sequence[tuple[Tensors, Tensors]]) -> None:
        """Run the rows of all `parts`, pairs of inputs and outputs of equal samples, in one call of `plan`.

        Every byte that is copied is counted. An input without a batch axis is uniform: the first part's is taken.
        """
        inputs = [
            parts[0][0][index] if axis is None else self._joined(index, [part[index] for part, _ in parts], axis)
            for index, axis in enumerate(self._in_axes)
        ]
        outputs = [
            self._room(len(inputs) + index, [part[index] for _, part in parts], axis)
            for index, axis in enumerate(self._out_axes)
        ]
        gathered = (tensor for tensor, axis in zip(inputs, self._in_axes, strict=True) if axis is not None)
        plan.ledger.gathered_bytes += sum(tensor.nbytes for tensor in gathered)
        plan.run(inputs, outputs)
        plan.ledger.gathered_bytes += sum(tensor.nbytes for tensor in outputs)
        for index, axis in enumerate(self._out_axes):
            start = 0
            for _, part in parts:
                rows = part[index].shape[axis]
                part[index].copy_(outputs[index].narrow(axis, start, rows))
                start += rows

    def _joined(self, index: int, tensors: list[torch.Tensor], axis: int) -> torch.Tensor:
        return torch.cat(tensors, axis, out=self._room(index, tensors, axis))

    def _room(self, index: int, tensors: list[torch.Tensor], axis: int) -> torch.Tensor:
        """Contiguous memory for `tensors` side by side along `axis`."""
        shape = list(tensors[0].shape)
        shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
        count = torch.Size(shape).numel()
        memory = self._memory.get(index)
        if memory is None or memory.numel() < count:
            memory = self._memory[index] = torch.empty(count, dtype=tensors[0].dtype)
        return memory[:count].view(shape)
