"""What a graph writes into: tensors that it made itself, or its inputs and constants, which makes it one with state."""

from __future__ import annotations

import operator
from typing import Any

from torch._ops import OpOverload
from torch.fx import Graph, Node

from broker.engine.inplace.outvariants import argument_of


def is_mutable(node: Node) -> bool:
    """Whether the node's op writes into one of its arguments."""
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def outside_written(graph: Graph) -> str | None:
    """Name an input or a constant of the graph that it writes into; None where it writes into nothing of others."""
    for node in graph.nodes:
        if not is_mutable(node):
            continue
        schema = node.target._schema
        given = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False)) | node.kwargs
        for argument in schema.arguments:
            if argument.is_write and isinstance(given.get(argument.name), Node):
                base = _base(given[argument.name])
                if base.op in ("placeholder", "get_attr"):
                    return str(base.target)
    return None


def _base(node: Node) -> Node:
    """The tensor whose memory this one may be."""
    while node.op == "call_function" and (node.target is operator.getitem or _may_alias(node.target)):
        node = argument_of(node)
    return node


def _may_alias(target: Any) -> bool:
    return isinstance(target, OpOverload) and any(each.alias_info is not None for each in target._schema.returns)
