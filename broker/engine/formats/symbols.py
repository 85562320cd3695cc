"""The dims of an exported program: symbols with bounds, and expressions of them.

A number that the operator gives for a symbol (`F32[batch,64]`) goes in wherever it occurs, so that what is computed
from it becomes a number too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch.export import ExportedProgram
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy

from broker.engine.config import ModelConfig
from broker.engine.reconcile import FileTensor, Symbol
from broker.engine.signature import parse_tensor
from broker.engine.tensors import DTYPE_NAMES
from ringbuf.errors import Code, RingbrokerError

# What torch writes for a dim without a lower bound, and does not enforce: 1 runs
PLAIN_LOWER_BOUND = 2

_MOST = 2**31 - 1  # of a dim in a signature


class Symbols:
    """The symbols of a program, and the numbers that the operator fixed some of them to."""

    def __init__(self, program: ExportedProgram, inputs: Iterable[torch.Tensor]) -> None:
        self._ranges: dict[str, Any] = {str(key): allowed for key, allowed in program.range_constraints.items()}
        self._numbers: dict[Any, Any] = {}
        self._expressions: dict[str, Any] = {}
        dims = [dim for value in inputs for dim in value.shape]
        self._of_inputs = {str(symbol) for dim in dims for symbol in self.expression(dim).free_symbols}

    def narrow(self, name: str, value: torch.Tensor, config: ModelConfig) -> None:
        """Learn the numbers in the operator's declaration of an input; raises `RingbrokerError` CONFIG_INVALID."""
        if name not in config.inputs:
            return
        declared = parse_tensor(name, config.inputs[name]).shape
        if len(declared) != value.dim():
            return  # which reconciling refuses
        for number, dim in zip(declared, value.shape, strict=True):
            if isinstance(number, int) and isinstance(dim, torch.SymInt):
                self._fix(name, dim.node.expr, number)

    def _fix(self, name: str, expression: Any, number: int) -> None:
        found = expression.xreplace(self._numbers)
        if found.free_symbols:
            symbol = next(iter(found.free_symbols))
            roots = [root for root in sympy.solve(found - number, symbol) if root.is_Integer]
            if len(found.free_symbols) > 1 or len(roots) != 1:
                raise _contradiction(f"{number} does not settle its dim, {found}", name)
            least, most = self.bounds(str(symbol))
            if roots[0] < (least if least > PLAIN_LOWER_BOUND else 1) or (most is not None and roots[0] > most):
                raise _contradiction(f"{number} is outside the bounds that the model was exported with", name)
            self._numbers[symbol] = roots[0]
        elif int(found) != number:
            raise _contradiction(f"the dim {number} is {found} by what the other dims are", name)

    def bounds(self, key: str) -> tuple[int, int | None]:
        """The least and the largest size that the program was exported for; None: no largest."""
        allowed = self._ranges.get(key)
        if allowed is None:
            return 1, None
        return int(allowed.lower) if allowed.lower.is_Integer else 1, _finite(allowed.upper)

    def expression(self, dim: Any) -> Any:
        """A dim as sympy has it, the operator's numbers put in."""
        return dim.node.expr.xreplace(self._numbers) if isinstance(dim, torch.SymInt) else sympy.Integer(int(dim))

    def tensor(self, name: str, value: torch.Tensor, single: str | None = None) -> FileTensor:
        """The tensor for reconciling. Where a dim is computed from the symbol `single`, this is taken to be 1."""
        dims: list[int | Symbol] = []
        for dim in value.shape:
            found = self.expression(dim)
            if not found.is_Symbol:
                found = found.xreplace({s: sympy.Integer(1) for s in found.free_symbols if str(s) == single})
            self._expressions[str(found)] = found
            dims.append(int(found) if found.is_Integer else Symbol(str(found)))
        return FileTensor(name, DTYPE_NAMES[value.dtype], tuple(dims))

    def keys_of(self, tensors: Iterable[FileTensor]) -> list[str]:
        """The keys of all dims that are no numbers."""
        return list(dict.fromkeys(dim.key for tensor in tensors for dim in tensor.shape if isinstance(dim, Symbol)))

    def is_of_inputs(self, key: str) -> bool:
        """Whether it is the dim of an input, and not one that is computed."""
        return key in self._of_inputs

    def is_computed(self, key: str) -> bool:
        """Whether it can be told from the inputs' shapes."""
        return all(str(symbol) in self._of_inputs for symbol in self._expressions[key].free_symbols)

    def maximum(self, key: str, maxima: Mapping[str, int | None]) -> int | None:
        """The largest that a computed dim can get, its symbols' maxima given; None where one has none, or none is
        found. It may be more than is ever reached.
        """
        expression, known = self._expressions[key], {}
        for symbol in expression.free_symbols:
            most = maxima.get(str(symbol), self.bounds(str(symbol))[1])
            if most is None:
                return None
            known[symbol] = ValueRanges(self.range_of(symbol).lower, most)
        return _bounded(expression, known)

    def range_of(self, symbol: Any) -> Any:
        """The sizes that requests may have: from 1 on, where the program's lower bound is a plain one."""
        least, most = self.bounds(str(symbol))
        if str(symbol) in self._of_inputs and least <= PLAIN_LOWER_BOUND:
            least = 1
        return ValueRanges(least, int_oo if most is None else most)


def _bounded(expression: Any, ranges: Mapping[Any, Any]) -> int | None:
    try:
        return _finite(bound_sympy(expression, dict(ranges)).upper)
    except Exception:  # what sympy cannot bound, the operator must
        return None


def _finite(bound: Any) -> int | None:
    return int(bound) if bound.is_Integer and 1 <= bound <= _MOST else None


def _contradiction(text: str, path: str) -> RingbrokerError:
    return RingbrokerError(Code.CONFIG_INVALID, text, path)
