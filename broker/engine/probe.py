"""Probe inputs: what a model is tried with at load. The same at every start, and different from row to row.

Values lie between the extremes that the operator declared for an input (`ranges`); else between those that the file or
the model says; else floats between -1 and 1, integers 0 or 1, bools either. An input that is uniform has one value for
all rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor, prod

import torch

from broker.engine.compare import disagreement
from broker.engine.config import ModelConfig
from broker.engine.signature import BATCH
from broker.engine.tensors import TORCH_DTYPES, rows_first
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature, Tensor

_SEED = 20_260_101
_USUAL_SIZE = 2  # of a dynamic dim, where its bounds allow: small, and not a size that broadcasts
_FEW = 8  # integers of a row: fewer that are random are often those of another row
_ROW_STEP, _ELEMENT_STEP = 1_000_003, 104_729  # primes: no usual range is a multiple of one
_LARGEST_FLOAT = 2.0**1022  # so that the difference of any two is a float
_LARGEST_INTEGER = 2**63 - 2  # torch's random integers end there
_UNLIKE = 1e-2  # by how much of the largest value rows must differ: what results are rounded by is less


class Probe:
    """Makes inputs and outputs for trial runs."""

    def __init__(
        self,
        signature: Signature,
        config: ModelConfig,
        minima: Mapping[str, int] | None = None,
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """Raises `RingbrokerError` CONFIG_INVALID for a range of an input that the model does not have, or in which
        no value of its dtype lies.
        """
        names = [tensor.name for tensor in signature.inputs]
        for name in (*config.ranges, *config.uniform):
            if name not in names:
                raise _invalid(f"the model's inputs are {', '.join(names)}", f"{config.name}.{name}")
        self._signature = signature
        self._minima = minima or {}
        known = {**(ranges or {}), **config.ranges}
        self._ranges = {
            tensor.name: _within_dtype(tensor, known.get(tensor.name), f"{config.name}.{tensor.name}")
            for tensor in signature.inputs
        }

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

    def has_unlike_rows(self, rows: int) -> bool:
        """Whether the first `rows` rows can be told apart, by any of the inputs."""
        made = zip(self._signature.inputs, self.inputs(rows, self.sizes()[0]), strict=True)
        batches = [rows_first(value, tensor.batch_axis) for tensor, value in made if tensor.batch_axis is not None]
        return any(disagreement(row, batch[0], _UNLIKE) is not None for batch in batches for row in batch[1:])

    def _input(self, index: int, tensor: Tensor, rows: int, sizes: Mapping[str, int]) -> torch.Tensor:
        axis = tensor.batch_axis
        sample = [sizes[dim] if isinstance(dim, str) else dim for at, dim in enumerate(tensor.shape) if at != axis]
        if axis is None:
            return self._row(index, tensor, sample, 0)
        return torch.stack([self._row(index, tensor, sample, row) for row in range(rows)], axis)

    def _row(self, index: int, tensor: Tensor, sample: list[int], row: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(_SEED + 1009 * index + row)
        dtype = TORCH_DTYPES[tensor.dtype]
        low, high = self._ranges[tensor.name]
        if dtype.is_floating_point:
            values = torch.rand(sample, generator=generator, dtype=torch.float64) * (high - low) + low
            return values.to(dtype)
        low, high = int(low), int(high)
        if (count := prod(sample)) >= _FEW:
            return torch.randint(low, high + 1, sample, generator=generator).to(dtype)
        steps = (row * _ROW_STEP + element * _ELEMENT_STEP + index for element in range(count))
        return torch.tensor([low + step % (high - low + 1) for step in steps], dtype=dtype).view(sample)


def _within_dtype(tensor: Tensor, known: tuple[float, float] | None, path: str) -> tuple[float, float]:
    """The least and the greatest value to try an input with, cut to those that its dtype has."""
    dtype = TORCH_DTYPES[tensor.dtype]
    least, most = _limits(dtype)
    if dtype.is_floating_point:
        low, high = known or (-1.0, 1.0)
    else:
        low, high = known or (0, 1)
        low, high = ceil(low), floor(high)
    low, high = max(low, least), min(high, most)
    if low > high:
        raise _invalid(f"no value of {tensor.dtype} lies in its range", path)
    return low, high


def _limits(dtype: torch.dtype) -> tuple[float, float]:
    if dtype is torch.bool:
        return 0, 1
    if dtype.is_floating_point:
        most = min(torch.finfo(dtype).max, _LARGEST_FLOAT)
        return -most, most
    return torch.iinfo(dtype).min, min(torch.iinfo(dtype).max, _LARGEST_INTEGER)


def _invalid(text: str, path: str) -> RingbrokerError:
    return RingbrokerError(Code.CONFIG_INVALID, text, path)
