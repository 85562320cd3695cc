"""What a graph writes into: tensors that it made itself, or its inputs and constants, which makes it one with state.

And whether it is a graph for training, which is not to be served.
"""

from __future__ import annotations

import operator
from typing import Any

from torch._ops import OpOverload
from torch.fx import Graph, Node

from broker.engine.inplace.outvariants import argument_of


def is_mutable(node: Node) -> bool:
    """Whether the node's op writes into one of its arguments."""
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def outside_written(graph: Graph) -> list[Node]:
    """The inputs (`placeholder`) and constants (`get_attr`) of the graph that it writes into."""
    found = {}
    for node in graph.nodes:
        if is_mutable(node):
            given = _arguments(node)
            for argument in node.target._schema.arguments:
                if argument.is_write and isinstance(given.get(argument.name), Node):
                    base = _base(given[argument.name])
                    if base.op in ("placeholder", "get_attr"):
                        found[str(base.target)] = base
    return list(found.values())


def is_for_training(node: Node) -> bool:
    """Whether the node's op drops values by chance, or normalises over the batch."""
    if not isinstance(node.target, OpOverload):
        return False
    given = _arguments(node)
    if given.get("p", given.get("dropout")) == 0:
        return False
    return given.get("train") is True or given.get("training") is True or given.get("dropout_p", 0) != 0


def _arguments(node: Node) -> dict[str, Any]:
    """The arguments that the op is given, by name."""
    names = (argument.name for argument in node.target._schema.arguments)  # type: ignore[union-attr]
    return dict(zip(names, node.args, strict=False)) | node.kwargs


def _base(node: Node) -> Node:
    """The tensor whose memory this one may be."""
    while node.op == "call_function" and (node.target is operator.getitem or _may_alias(node.target)):
        node = argument_of(node)
    return node


def _may_alias(target: Any) -> bool:
    return isinstance(target, OpOverload) and any(each.alias_info is not None for each in target._schema.returns)
