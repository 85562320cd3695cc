"""A graph as one plain Python function: its ops called in order, with everything looked up beforehand.

`GraphModule.forward` looks up `torch.ops.aten.linear.default` and `self.encoder.weight` at every call, and goes
through a Python method around each op. Here ops and weights are the function's own constants, and ops are called
through torch's Python bindings where there is one of that name (measured, three ops: 7.1 us as overloads, 6.1 us as
their builtins, 4.6 us through the bindings). What is no longer needed is dropped as the function goes on, as fx does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch.fx import Graph, Node
from torch.fx.node import map_arg

Wrap = Callable[[Node, Callable[..., Any]], Callable[..., Any]]


def compile_graph(graph: Graph, root: torch.nn.Module, wrap: Wrap | None = None) -> Callable[..., Any]:
    """Return a function of the graph's placeholders, in order, that gives what its output node gives.

    `root` holds what `get_attr` nodes name; its tensors are taken without their autograd history. `wrap` may put
    something around the call of any node.
    """
    listing = _Listing(root, wrap)
    for node in graph.nodes:
        listing.add(node)
    return listing.finish()


class _Listing:
    """The function's lines, and the constants that they name."""

    def __init__(self, root: torch.nn.Module, wrap: Wrap | None) -> None:
        self._root = root
        self._wrap = wrap
        self._names: dict[Node, str] = {}
        self._constants: dict[str, Any] = {}
        self._parameters: list[str] = []
        self._lines: list[str] = []

    def add(self, node: Node) -> None:
        """Add what one node does."""
        if node.op == "placeholder":
            self._names[node] = f"v{len(self._names)}"
            self._parameters.append(self._names[node])
        elif node.op == "get_attr":
            self._names[node] = self._constant(_plain(_attribute(self._root, str(node.target))))
        elif node.op == "output":
            self._lines.append(f"return {self._written(node.args[0])}")
        else:
            call = self._call(node)
            if node.users:
                self._names[node] = f"v{len(self._names)}"
                call = f"{self._names[node]} = {call}"
            self._lines.append(call)
            self._drop_used_up(node)

    def finish(self) -> Callable[..., Any]:
        """Compile the lines."""
        source = f"def run({', '.join(self._parameters)}):\n" + "".join(f"    {line}\n" for line in self._lines)
        namespace = dict(self._constants)
        exec(compile(source, "<graph>", "exec"), namespace)
        function: Callable[..., Any] = namespace["run"]
        return function

    def _call(self, node: Node) -> str:
        arguments = [self._written(value) for value in node.args]
        arguments += [f"{name}={self._written(value)}" for name, value in node.kwargs.items()]
        if node.op == "call_method":
            return f"{arguments[0]}.{node.target}({', '.join(arguments[1:])})"
        function = _attribute(self._root, str(node.target)) if node.op == "call_module" else binding(node.target)
        if self._wrap is not None:
            function = self._wrap(node, function)
        return f"{self._constant(function)}({', '.join(arguments)})"

    def _written(self, value: Any) -> str:
        """The value as an expression. One without nodes in it is a constant, made once: no op writes into those."""
        if isinstance(value, Node):
            return self._names[value]
        if not _has_nodes(value):
            return repr(value) if value is None or type(value) in (int, bool) else self._constant(value)
        if isinstance(value, slice):
            return f"slice({self._written(value.start)}, {self._written(value.stop)}, {self._written(value.step)})"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key!r}: {self._written(each)}" for key, each in value.items()) + "}"
        items = "".join(f"{self._written(each)}, " for each in value)
        return f"[{items}]" if isinstance(value, list) else f"({items})"

    def _constant(self, value: Any) -> str:
        name = f"k{len(self._constants)}"
        self._constants[name] = list(value) if isinstance(value, list) else value
        return name

    def _drop_used_up(self, node: Node) -> None:
        used = dict.fromkeys(each for each in node.all_input_nodes if each.op not in ("placeholder", "get_attr"))
        last = [self._names[each] for each in used if _last_user(each) is node]
        if last:
            self._lines.append(f"{' = '.join(last)} = None")


def binding(target: Any) -> Callable[..., Any]:
    """What to call for an op: torch's Python binding of it, or else the op's own builtin."""
    if not isinstance(target, torch._ops.OpOverload):
        return target  # type: ignore[no-any-return]
    written = [argument.name for argument in target._schema.arguments if argument.is_write]
    name = target._schema.name.removeprefix("aten::")
    if written in ([], ["out"]) and name not in _OTHER_IN_PYTHON:
        for bindings in (torch._C._nn, torch._C._VariableFunctions):
            found = getattr(bindings, name, None)
            if found is not None:
                return found  # type: ignore[no-any-return]
    return target._op


# Of these the Python binding takes other arguments, or in another order, than the op's schema says.
_OTHER_IN_PYTHON = frozenset({"_to_copy", "tensor", "normal", "range", "empty", "full", "arange", "sym_size", "pad"})


def _has_nodes(value: Any) -> bool:
    found: list[Node] = []
    map_arg(value, found.append)
    return bool(found)


def _last_user(node: Node) -> Node:
    return max(node.users)


def _attribute(root: torch.nn.Module, path: str) -> Any:
    return reduce(getattr, path.split("."), root)


def _plain(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value
