"""Probe inputs: what a model is tried with at load. The same at every start, and different from row to row.

Values lie between the extremes that the operator declared for an input (`ranges`); else between those that the file or
the model says; else floats between -1 and 1, integers 0 or 1, bools either. An input that is uniform has one value for
all rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from broker.engine.config import ModelConfig
from broker.engine.signature import BATCH
from broker.engine.tensors import TORCH_DTYPES
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature, Tensor

_SEED = 20_260_101
_USUAL_SIZE = 2  # of a dynamic dim, where its bounds allow: small, and not a size that broadcasts


class Probe:
    """Makes inputs and outputs for trial runs."""

    def __init__(
        self,
        signature: Signature,
        config: ModelConfig,
        minima: Mapping[str, int] | None = None,
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """Raises `RingbrokerError` CONFIG_INVALID for a range of an input that the model does not have."""
        names = [tensor.name for tensor in signature.inputs]
        for name in (*config.ranges, *config.uniform):
            if name not in names:
                raise RingbrokerError(Code.CONFIG_INVALID, f"the model's inputs are {', '.join(names)}", name)
        self._signature = signature
        self._uniform = config.uniform
        self._minima = minima or {}
        self._ranges = {**(ranges or {}), **config.ranges}

    def sizes(self) -> list[dict[str, int]]:
        """Sizes of the dynamic dims to try: all near the smallest, and, where there are any, a little more of each."""
        dims = self._signature.dims
        least = {dim: max(_USUAL_SIZE, self._minima.get(dim, 1)) for dim in dims}
        small = {dim: min(size, dims[dim] or size) for dim, size in least.items()}
        more = {
            dim: min(size + 1 + index, dims[dim] or size + 1 + index) for index, (dim, size) in enumerate(small.items())
        }
        return [small] if more == small else [small, more]

    def inputs(self, rows: int, sizes: Mapping[str, int]) -> list[torch.Tensor]:
        """Inputs of `rows` rows, in the signature's order; row i is the same whatever `rows` is."""
        return [self._input(index, tensor, rows, sizes) for index, tensor in enumerate(self._signature.inputs)]

    def outputs(self, rows: int, sizes: Mapping[str, int]) -> list[torch.Tensor]:
        """Outputs to be written into, filled with what no model is likely to give; open dims at their maxima."""
        of_inputs = {dim for tensor in self._signature.inputs for dim in tensor.shape}
        known = {dim: sizes[dim] if dim in of_inputs else most or 0 for dim, most in self._signature.dims.items()}
        made = []
        for tensor in self._signature.outputs:
            shape = [rows if dim == BATCH else known[dim] if isinstance(dim, str) else dim for dim in tensor.shape]
            made.append(torch.full(shape, 77, dtype=torch.int64).to(TORCH_DTYPES[tensor.dtype]))
        return made

    def _input(self, index: int, tensor: Tensor, rows: int, sizes: Mapping[str, int]) -> torch.Tensor:
        axis = tensor.batch_axis
        sample = [sizes[dim] if isinstance(dim, str) else dim for at, dim in enumerate(tensor.shape) if at != axis]
        if axis is None:
            return self._row(index, tensor, sample, 0)
        return torch.stack([self._row(index, tensor, sample, row) for row in range(rows)], axis)

    def _row(self, index: int, tensor: Tensor, sample: list[int], row: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(_SEED + 1009 * index + row)
        dtype = TORCH_DTYPES[tensor.dtype]
        if dtype is torch.bool:
            return torch.randint(0, 2, sample, generator=generator).bool()
        if dtype.is_floating_point:
            low, high = self._ranges.get(tensor.name, (-1.0, 1.0))
            values = torch.rand(sample, generator=generator, dtype=torch.float64) * (high - low) + low
            return values.to(dtype)
        low, high = self._ranges.get(tensor.name, (0, 1))
        return torch.randint(int(low), int(high) + 1, sample, generator=generator).to(dtype)
