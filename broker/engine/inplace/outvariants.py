"""What an op has in its place that writes its result into a given tensor.

That is its out-variant; or, where this only copies a result there (`aten.relu.out`), or does not exist, another op that
computes the same. Neither is believed: `broker.engine.inplace.plan` runs them and looks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Graph, Node

aten = torch.ops.aten

StandIn = Callable[[Graph, Node, Node], Node | None]


class Refused(Exception):  # noqa: N818
    """Why an output cannot be written in place, for people; raised and caught where graphs are redirected."""


def out_variant(target: Any) -> OpOverload[..., Any] | None:
    """The overload that takes the same arguments and, further, where to write each result."""
    takes = [argument.name for argument in target._schema.arguments]
    packet = target._overloadpacket
    for name in packet.overloads():
        variant: OpOverload[..., Any] = getattr(packet, name)
        arguments = variant._schema.arguments
        written = [argument for argument in arguments if argument.is_write]
        if (
            len(written) == len(target._schema.returns)
            and all(argument.kwarg_only for argument in written)
            and [argument.name for argument in arguments if not argument.is_write] == takes
            and [str(a.type) for a in arguments if not a.is_write] == [str(a.type) for a in target._schema.arguments]
        ):
            return variant
    return None


def argument_of(node: Node) -> Node:
    """The tensor that the op takes first; raises `Refused`."""
    argument = node.args[0] if node.args else None
    if not isinstance(argument, Node):
        raise Refused(f"{node.name} takes no tensor first")
    return argument


def value_of(node: Any) -> torch.Tensor:
    """What the graph knows of the node's result: a tensor of that dtype and shape; raises `Refused`."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        raise Refused(f"{node.name} is no tensor")
    return value


def name_of(node: Node) -> str:
    """The node's op, as `aten.linear.out`."""
    return str(node.target) if isinstance(node.target, OpOverload) else node.name


def _relu(graph: Graph, op: Node, place: Node) -> Node:
    return graph.call_function(aten.clamp_min.out, (*op.args, 0), {"out": place})


def _softmax(name: str) -> StandIn:
    variant = getattr(aten, name).out

    def stand_in(graph: Graph, op: Node, place: Node) -> Node | None:
        if len(op.args) > 2 or op.kwargs.get("dtype") is not None:
            return None
        return graph.call_function(variant, (*op.args, False), {"out": place})

    return stand_in


def _embedding(graph: Graph, op: Node, place: Node) -> Node:
    weight, indices = op.args[0], op.args[1]
    rows = graph.call_function(aten.reshape.default, (indices, [-1]))
    flat = graph.call_function(aten.view.default, (place, [-1, int(value_of(weight).shape[1])]))
    return graph.call_function(aten.index_select.out, (weight, 0, rows), {"out": flat})


def _max_pool(graph: Graph, op: Node, place: Node) -> Node:
    indices = graph.call_function(aten.empty_like.default, (place,), {"dtype": torch.int64})
    kwargs = {**op.kwargs, "out": place, "indices": indices}
    return graph.call_function(aten.max_pool2d_with_indices.out, op.args, kwargs)


def _conversion(graph: Graph, op: Node, place: Node) -> Node:
    """A conversion writes every value anew, and may as well do so in the plane; what converts nothing may not."""
    if value_of(op).dtype == value_of(argument_of(op)).dtype:
        raise Refused(f"{name_of(op)} of the same dtype: there is no op to write elsewhere")
    return graph.call_function(aten.copy_.default, (place, argument_of(op)))


# What computes the same as the op, and was seen to write there
STAND_INS: dict[OpOverload[..., Any], StandIn] = {
    aten.relu.default: _relu,
    aten.softmax.int: _softmax("_softmax"),
    aten.log_softmax.int: _softmax("_log_softmax"),
    aten.embedding.default: _embedding,
    aten.max_pool2d.default: _max_pool,
    aten.to.dtype: _conversion,
    aten.to.dtype_layout: _conversion,
    aten._to_copy.default: _conversion,
    aten.type_as.default: _conversion,
}
