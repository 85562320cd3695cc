"""Graphs that write their results where they are told: each output's last op replaced by one that writes there.

From an output the graph is walked back, through views of the whole tensor, to the op that produces it. That op is
given the output's plane, with the views undone on the plane. Whatever else uses the value uses what was written.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch._ops import OpOverload
from torch.fx import Graph, Node

from broker.engine.inplace.mutation import is_mutable
from broker.engine.inplace.outvariants import STAND_INS, Refused, argument_of, name_of, out_variant, value_of

aten = torch.ops.aten

_SHAPE_VIEWS = frozenset(
    {
        *(aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.view_as.default),
        *(aten.reshape_as.default, aten.flatten.using_ints, aten.unflatten.int, aten.unsqueeze.default),
        *(aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten._reshape_alias.default, aten.alias.default),
        aten.detach.default,
    }
)
_PERMUTATIONS = frozenset(
    {
        *(aten.permute.default, aten.transpose.int, aten.t.default, aten.numpy_T.default, aten.mT.default),
        *(aten.movedim.int, aten.movedim.intlist, aten.swapaxes.default, aten.swapdims.default, aten.adjoint.default),
    }
)
# The same values in another tensor: views too, where nothing is written into tensors later on
_SAME_VALUES = frozenset(
    {aten.clone.default, aten.contiguous.default, aten.lift_fresh_copy.default, aten.dropout.default}
)


class Source(NamedTuple):
    """Where an output's values come from."""

    node: Node
    """The op."""
    result: int | None
    """Which of its results; None where it has one."""
    views: tuple[Node, ...]
    """The views between it and the output, the last one first."""


# By the index of an op's result (None where it has one): the output that it is, and how
Results = dict[int | None, tuple[int, Source]]


@dataclass(frozen=True, slots=True)
class Redirected:
    """A graph with a further placeholder for every output."""

    graph: Graph
    reasons: tuple[str, ...]
    """For each output: the op that writes it, or why none does."""
    copied: tuple[int, ...]
    """The outputs whose values the graph returns, in order; it writes the others."""
    writers: dict[Node, tuple[int, ...]]
    """The ops that write, with their outputs."""


def redirect(graph: Graph, count: int, excluded: Collection[int] = ()) -> Redirected:
    """Return the graph with its first `count` outputs written in place where that can be done; others are returned.

    `graph` is left alone; `excluded` outputs are not tried.
    """
    return _Redirection(graph, count).carry_out(frozenset(excluded))


class _Redirection:
    """One redirection in the making."""

    def __init__(self, graph: Graph, count: int) -> None:
        self._graph = Graph()
        values: Any = self._graph.graph_copy(graph, {})
        self._values: list[Any] = list(values)
        self._inputs = [node for node in self._graph.nodes if node.op == "placeholder"]
        self._is_pure = not any(is_mutable(node) for node in self._graph.nodes)
        self._reasons: dict[int, str] = {}
        with self._graph.inserting_before(self._inputs[-1].next):
            self._outputs = [self._graph.placeholder(f"plane_{index}") for index in range(count)]

    def carry_out(self, excluded: frozenset[int]) -> Redirected:
        """Redirect what can be redirected."""
        writers: dict[Node, tuple[int, ...]] = {}
        for op, results in self._sources(excluded).items():
            indices = tuple(index for index, _ in results.values())
            try:
                writer = self._replace(op, results)
            except Refused as refusal:
                self._reasons.update(dict.fromkeys(indices, str(refusal)))
            else:
                writers[writer] = indices
                self._reasons.update(dict.fromkeys(indices, f"written by {name_of(writer)}"))
        written = {index for indices in writers.values() for index in indices}
        copied = tuple(index for index in range(len(self._outputs)) if index not in written)
        self._graph.output(tuple(self._values[index] for index in copied))
        self._graph.eliminate_dead_code(is_impure_node=_has_effects)
        reasons = tuple(self._reasons.get(index, "") for index in range(len(self._outputs)))
        return Redirected(self._graph, reasons, copied, writers)

    def _sources(self, excluded: frozenset[int]) -> dict[Node, Results]:
        ops: dict[Node, Results] = {}
        for index in range(len(self._outputs)):
            if index in excluded:
                continue
            try:
                source = self._source(self._values[index])
                taken = ops.setdefault(source.node, {})
                if source.result in taken:
                    raise Refused(f"the same tensor as output {taken[source.result][0]}")
            except Refused as refusal:
                self._reasons[index] = str(refusal)
            else:
                taken[source.result] = (index, source)
        return ops

    def _source(self, node: Node) -> Source:
        """Walk back from an output."""
        views: list[Node] = []
        while node.op == "call_function":
            if node.target in _SHAPE_VIEWS or node.target in _PERMUTATIONS:
                views.append(node)
            elif not ((self._is_pure and self._keeps_values(node)) or _writes_into_its_argument(node)):
                break
            node = argument_of(node)
        if node.op == "placeholder":
            raise Refused("an input returned as it is")
        if node.op == "get_attr":
            raise Refused("a constant returned as it is")
        if node.target is operator.getitem and isinstance(node.args[1], int):
            return Source(argument_of(node), node.args[1], tuple(views))
        return Source(node, None, tuple(views))

    def _keeps_values(self, node: Node) -> bool:
        if node.target is aten.dropout.default and node.args[2] is not False:
            return False
        return node.target in _SAME_VALUES and value_of(node).dtype == value_of(argument_of(node)).dtype

    def _replace(self, op: Node, results: Results) -> Node:
        """Put an op that writes into the outputs in the place of `op`."""
        if not isinstance(op.target, OpOverload):
            raise Refused(f"{op.name} is no operator that could write elsewhere")
        if op.target.is_view and op.target not in STAND_INS:
            raise Refused(f"{name_of(op)} gives a part of another tensor")
        with self._graph.inserting_before(op):
            places = {result: self._undo(source.views, self._outputs[i]) for result, (i, source) in results.items()}
            stand_in = STAND_INS.get(op.target) if None in places else None
            writer = stand_in(self._graph, op, places[None]) if stand_in else None
            writer = writer or self._write_all(op, places)
        if None in places:
            op.replace_all_uses_with(places[None])
            self._values = [places[None] if value is op else value for value in self._values]
        else:
            self._replace_results(op, places)
        return writer

    def _replace_results(self, op: Node, places: dict[int | None, Node]) -> None:
        for user in list(op.users):
            if user.target is not operator.getitem or user.args[1] not in places:
                continue
            place = places[user.args[1]]  # type: ignore[index]
            user.replace_all_uses_with(place)
            self._values = [place if value is user else value for value in self._values]

    def _write_all(self, op: Node, places: dict[int | None, Node]) -> Node:
        """Call the op's out-variant, with memory of its own for the results that are nobody's output."""
        variant = out_variant(op.target)
        if variant is None:
            raise Refused(f"{name_of(op)} has no variant that writes into a given tensor")
        names = [argument.name for argument in variant._schema.arguments if argument.is_write]
        if None not in places:
            for result in range(len(names)):
                if result not in places:
                    places[result] = self._scratch(op, result)
        outs = [places[None]] if None in places else [places[result] for result in range(len(names))]
        kwargs = {name: value for name, value in op.kwargs.items() if name not in names}
        return self._graph.call_function(variant, op.args, kwargs | dict(zip(names, outs, strict=True)))

    def _scratch(self, op: Node, result: int) -> Node:
        value = op.meta["val"][result]
        sizes = self._sizes(value.shape)
        like = next(node for node in op.all_input_nodes if isinstance(node.meta.get("val"), torch.Tensor))
        return self._graph.call_function(aten.new_empty.default, (like, sizes), {"dtype": value.dtype})

    def _undo(self, views: Sequence[Node], place: Node) -> Node:
        """The views' opposite: the plane as the op's own result."""
        for view in views:
            before = value_of(argument_of(view))
            if view.target in _PERMUTATIONS:
                place = self._graph.call_function(aten.permute.default, (place, _inverse(view)))
            elif tuple(value_of(view).shape) != tuple(before.shape):
                place = self._graph.call_function(aten.view.default, (place, self._view_sizes(before.shape)))
        return place

    def _view_sizes(self, shape: Sequence[Any]) -> list[Any]:
        dynamic = [axis for axis, dim in enumerate(shape) if not isinstance(dim, int)]
        if len(dynamic) == 1:
            return [dim if isinstance(dim, int) else -1 for dim in shape]
        return self._sizes(shape)

    def _sizes(self, shape: Sequence[Any]) -> list[Any]:
        """The dims as numbers, and as nodes that read them off the inputs."""
        return [dim if isinstance(dim, int) else self._size(str(dim)) for dim in shape]

    def _size(self, symbol: str) -> Node:
        for node in self._inputs:
            for axis, dim in enumerate(value_of(node).shape):
                if not isinstance(dim, int) and str(dim) == symbol:
                    return self._graph.call_function(aten.sym_size.int, (node, axis))
        raise Refused(f"the size {symbol} of what its last op gives is computed")


def _writes_into_its_argument(node: Node) -> bool:
    """Whether it is an op such as `relu_`, whose result is its first argument, of the same shape."""
    if not is_mutable(node) or torch.Tag.inplace_view in node.target.tags:  # type: ignore[union-attr]
        return False
    schema = node.target._schema  # type: ignore[union-attr]
    is_first = schema.arguments[0].is_write and not schema.arguments[0].kwarg_only
    return is_first and len(schema.returns) == 1


def _inverse(view: Node) -> list[int]:
    """The permutation that undoes a view's."""
    rank = value_of(argument_of(view)).dim()
    told_apart = torch.empty(tuple(range(2, 2 + rank)), device="meta")
    permuted = view.target(told_apart, *view.args[1:], **view.kwargs)  # type: ignore[operator]
    order = [size - 2 for size in permuted.shape]
    return [order.index(axis) for axis in range(rank)]


def _has_effects(node: Node) -> bool:
    """What stays though nobody uses it: ops that write, and checks; not those of what never changes."""
    return node.target is not aten._assert_tensor_metadata.default and node.is_impure()
