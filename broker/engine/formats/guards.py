"""The guards of an exported program: what it demands of its inputs' sizes.

`ExportedProgram.module()` checks them all at every call, for 40 us. Most of them only say what every request was
already checked for: that equally named dims are equal, that a dim is what the signature says. The rest, such as
`x.size()[1] % 8 == 0`, are still checked.
"""

from __future__ import annotations

import ast
import inspect
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree
from torch.utils._sympy.functions import FloorDiv, PythonMod
from torch.utils._sympy.value_ranges import bound_sympy

from broker.engine.formats.symbols import Symbols
from broker.engine.inplace.rehearsal import Check

_SIZE = re.compile(r"(L(?:\[[^\]]+\])+)\.size\(\)\[(\d+)\]")

_OPERATIONS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: FloorDiv,
    ast.Mod: PythonMod,
    ast.USub: operator.neg,
}
_FUNCTIONS = {"max": sympy.Max, "min": sympy.Min}
# By comparison: whether it holds for all, and for none, of the differences between two bounds
_COMPARISONS: dict[type[ast.cmpop], tuple[Callable[[Any, Any], bool], Callable[[Any, Any], bool]]] = {
    ast.Eq: (lambda low, high: low == 0 == high, lambda low, high: low > 0 or high < 0),
    ast.NotEq: (lambda low, high: low > 0 or high < 0, lambda low, high: low == 0 == high),
    ast.GtE: (lambda low, high: low >= 0, lambda low, high: high < 0),
    ast.Gt: (lambda low, high: low > 0, lambda low, high: high <= 0),
    ast.LtE: (lambda low, high: high <= 0, lambda low, high: low > 0),
    ast.Lt: (lambda low, high: high < 0, lambda low, high: low >= 0),
}


class BelowMinimumError(ValueError):
    """A dim is smaller than what the program was exported for."""


def judge(guard: str, shapes: Mapping[str, Sequence[Any]], symbols: Symbols) -> bool | None:
    """Say whether a guard holds for every request that the signature allows, for none (False), or for some (None).

    `shapes` are the inputs' by their name in guards, as `L['x']`.
    """
    sizes: dict[str, Any] = {}
    try:
        for source, axis in _SIZE.findall(guard):
            sizes[f"size_{len(sizes)}"] = symbols.expression(shapes[source][int(axis)])
        names = iter(sizes)
        return _judge(ast.parse(_SIZE.sub(lambda _: next(names), guard), mode="eval").body, sizes, symbols)
    except Exception:  # what is not understood is left to torch, which wrote it
        return None


def _judge(node: ast.expr, sizes: Mapping[str, Any], symbols: Symbols) -> bool | None:
    if isinstance(node, ast.BoolOp):
        verdicts = [_judge(value, sizes, symbols) for value in node.values]
        settling = isinstance(node.op, ast.Or)  # one True settles an `or`, one False an `and`
        if settling in verdicts:
            return settling
        return None if None in verdicts else not settling
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        return None
    difference = sympy.expand(_evaluate(node.left, sizes) - _evaluate(node.comparators[0], sizes))
    bounds = bound_sympy(difference, {symbol: symbols.range_of(symbol) for symbol in difference.free_symbols})
    for_all, for_none = _COMPARISONS[type(node.ops[0])]
    if for_all(bounds.lower, bounds.upper):
        return True
    return False if for_none(bounds.lower, bounds.upper) else None


def _evaluate(node: ast.AST, sizes: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return sizes[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return sympy.Integer(node.value)
    if isinstance(node, ast.BinOp):
        return _OPERATIONS[type(node.op)](_evaluate(node.left, sizes), _evaluate(node.right, sizes))
    if isinstance(node, ast.UnaryOp):
        return _OPERATIONS[type(node.op)](_evaluate(node.operand, sizes))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _FUNCTIONS[node.func.id](*(_evaluate(argument, sizes) for argument in node.args))
    raise ValueError(ast.dump(node))


def shapes_of(program: ExportedProgram, module: torch.nn.Module, values: Sequence[torch.Tensor]) -> dict[str, Any]:
    """The inputs' shapes by what guards call them; none of them where the file carries no example inputs."""
    if program.example_inputs is None:
        return {}
    args, kwargs = program.example_inputs
    arguments = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    paths = [path for path, _ in pytree.tree_leaves_with_path(arguments)]
    return {f"L{pytree.keystr(path)}": value.shape for path, value in zip(paths, values, strict=True)}


def all_guards(program: ExportedProgram) -> Check | None:
    """Torch's own check of flat inputs, which raises AssertionError; None where the file carries too little for it."""
    checker = dict(program.module().named_children()).get("_guards_fn")
    return None if checker is None else checker.forward


def minimum_check(rules: Sequence[tuple[int, int, int, str]]) -> Check | None:
    """A check for (input, axis, least size, the dim's name); raises `BelowMinimumError`."""
    if not rules:
        return None

    def check(*inputs: torch.Tensor) -> None:
        for index, axis, least, name in rules:
            if inputs[index].shape[axis] < least:
                raise BelowMinimumError(f"{name} is {inputs[index].shape[axis]}; the model takes {least} or more")

    return check


def both(first: Check | None, second: Check | None) -> Check | None:
    """One check after the other, where there are two."""
    if first is None or second is None:
        return first or second

    def check(*inputs: torch.Tensor) -> None:
        first(*inputs)
        second(*inputs)

    return check


def told(guard: str) -> str:
    """A guard as people write it: `x.size()[1] % 8 == 0`."""
    return re.sub(r"L\['([^']+)'\]", r"\1", guard)
