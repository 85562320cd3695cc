"""Rehearsals: which outputs of a graph can be written in place, found out by running it on probe inputs.

An output is in place only if the op that writes it allocates nothing of its size (`honesty`), and only if the results
are those that torch's own run of the graph gives, with the inputs as they were.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.fx import Graph, GraphModule

from broker.engine.compare import disagreement
from broker.engine.inplace.honesty import Watch
from broker.engine.inplace.listing import compile_graph
from broker.engine.inplace.outvariants import name_of
from broker.engine.inplace.redirection import Redirected, redirect
from broker.engine.plan import Route
from broker.engine.probe import Probe
from broker.engine.signature import may_lie_apart
from broker.engine.tensors import spread
from ringbuf.wire.messages import Signature, Tensor

log = logging.getLogger("broker.engine")

_TELLING_BYTES = 4096  # an output of this size is larger than whatever else an op may allocate
_MOST_ROWS = 16  # of the runs under the profiler: a large model should not be long in loading

Check = Callable[..., None]
Arrange = Callable[[Sequence[torch.Tensor], Sequence[Tensor]], list[torch.Tensor]]


class Layout(NamedTuple):
    """How the rows of the inputs and of the outputs lie."""

    inputs: Arrange
    outputs: Arrange


class Unlike(Exception):  # noqa: N818
    """The graph compiled by us gives other results than torch's own run of it."""


@dataclass(frozen=True, slots=True)
class Program:
    """A graph of tensors in and tensors out, in the signature's order, and what there is to know about it."""

    name: str
    graph: Graph
    root: torch.nn.Module
    """What its `get_attr` nodes name."""
    signature: Signature
    max_batch: int | None
    check: Check | None = None
    """Raises for inputs that the graph was not made for; called with them before every run."""


class Way(NamedTuple):
    """How the graph is run on one layout."""

    function: Callable[..., Any]
    """Takes the inputs and all outputs, writes some of these, and returns the results for the others."""
    copied: tuple[int, ...]
    """The others."""


def _adjacent(values: Sequence[torch.Tensor], declared: Sequence[Tensor]) -> list[torch.Tensor]:
    return [value.contiguous() for value in values]


def _apart(values: Sequence[torch.Tensor], declared: Sequence[Tensor]) -> list[torch.Tensor]:
    return [
        spread(value, tensor.batch_axis) if may_lie_apart(tensor) else value.contiguous()
        for value, tensor in zip(values, declared, strict=True)
    ]


ADJACENT = (Layout(_adjacent, _adjacent),)
# A dim may be at its maximum in one tensor, and short in another
APART = (Layout(_apart, _apart), Layout(_adjacent, _apart), Layout(_apart, _adjacent))


class _Case(NamedTuple):
    """Inputs, and what the graph as it was gives for them."""

    rows: int
    sizes: dict[str, int]
    inputs: list[torch.Tensor]
    expected: list[torch.Tensor]


class Rehearsal:
    """Runs a program on the probe's inputs."""

    def __init__(self, program: Program, probe: Probe) -> None:
        self._program = program
        self._probe = probe
        self._cases: list[_Case] = []
        self._count = len(program.signature.outputs)

    def expect(self) -> None:
        """Run the graph as torch itself does; raises whatever the model raises."""
        forward = GraphModule(self._program.root, self._program.graph).forward
        for rows, sizes in self._forms():
            inputs = self._probe.inputs(rows, sizes)
            torch.manual_seed(0)
            if self._program.check is not None:
                self._program.check(*inputs)
            self._cases.append(_Case(rows, sizes, inputs, list(forward(*(tensor.clone() for tensor in inputs)))))

    def _forms(self) -> Iterator[tuple[int, dict[str, int]]]:
        has_rows = all(tensor.batch_axis is not None for tensor in self._program.signature.outputs)
        most = min(3, self._program.max_batch or 3) if has_rows else 1
        sizes, *others = self._probe.sizes()
        for rows in sorted({1, most}):
            yield rows, sizes
        for other in others:
            yield most, other

    def find_way(self, layouts: Sequence[Layout]) -> tuple[Way, tuple[Route, ...]]:
        """Find the outputs that can be written on all of these layouts."""
        excluded: dict[int, str] = {}
        while True:
            redirected = redirect(self._program.graph, self._count, excluded)
            guilty = next(filter(None, (self._dishonest(redirected, layout) for layout in layouts)), {})
            if not guilty:
                function = checked(self._program, compile_graph(redirected.graph, self._program.root))
                way = Way(function, redirected.copied)
                guilty = next(filter(None, (self._wrong(way, redirected, layout) for layout in layouts)), {})
                if not guilty:
                    break
            excluded |= guilty
        reasons = [excluded.get(index, why) for index, why in enumerate(redirected.reasons)]
        return way, tuple(Route(index not in way.copied, why) for index, why in enumerate(reasons))

    def _dishonest(self, redirected: Redirected, layout: Layout) -> dict[int, str]:
        """The outputs of ops that do not write there themselves, with the reasons."""
        if not redirected.writers:
            return {}
        watch = Watch(redirected)
        function = compile_graph(redirected.graph, self._program.root, watch.around)
        inputs, outputs = self._telling(layout)
        try:
            function(*inputs, *outputs)
        except Exception as error:
            return watch.blamed(f"cannot write into rows as they lie: {type(error).__name__}")
        return watch.dishonest(outputs)

    def _telling(self, layout: Layout) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Inputs and outputs that are large enough to tell the result's memory from an op's other needs."""
        signature = self._program.signature
        sizes = self._cases[-1].sizes
        rows = self._cases[-1].rows
        if rows > 1:
            row_bytes = min(tensor.nbytes for tensor in self._probe.outputs(1, sizes))
            most = min(_MOST_ROWS, self._program.max_batch or _MOST_ROWS)
            rows = max(rows, min(most, _TELLING_BYTES // max(row_bytes, 1)))
        inputs, outputs = self._probe.inputs(rows, sizes), self._probe.outputs(rows, sizes)
        return layout.inputs(inputs, signature.inputs), layout.outputs(outputs, signature.outputs)

    def _wrong(self, way: Way, redirected: Redirected, layout: Layout) -> dict[int, str]:
        """The outputs that are not what they should be, with the reasons; they are worth a warning."""
        for case in self._cases:
            wrong = self._compare(way, case, layout)
            if wrong is None:
                continue
            index, how = wrong
            writers = [name_of(node) for node, of in redirected.writers.items() if index in of or index < 0]
            if not writers and index >= 0:
                index, writers = -1, [name_of(node) for node in redirected.writers]
            if not writers:
                raise Unlike(f"the graph gives other results than torch's own run of it: {how}")
            text = f"{', '.join(writers)} in place gave other results"
            log.warning("copied, not in place", extra={"model": self._program.name, "because": f"{text}: {how}"})
            return dict.fromkeys(range(self._count) if index < 0 else (index,), text)
        return {}

    def _compare(self, way: Way, case: _Case, layout: Layout) -> tuple[int, str] | None:
        """An output that differs, and how; -1 for the whole."""
        signature = self._program.signature
        inputs = layout.inputs(case.inputs, signature.inputs)
        outputs = layout.outputs(self._probe.outputs(case.rows, case.sizes), signature.outputs)
        torch.manual_seed(0)
        try:
            results = way.function(*inputs, *outputs)
        except Exception as error:
            return -1, f"it raised {type(error).__name__}"
        for index, result in zip(way.copied, results, strict=True):
            outputs[index] = result
        for index, (output, expected) in enumerate(zip(outputs, case.expected, strict=True)):
            if (how := disagreement(output, expected)) is not None:
                return index, how
        for now, before in zip(inputs, case.inputs, strict=True):
            if disagreement(now, before, 0.0) is not None:
                return -1, "it wrote into an input"
        return None


def checked(program: Program, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the program's check in front, where it has one."""
    check, count = program.check, len(program.signature.inputs)
    if check is None:
        return function

    def run(*tensors: torch.Tensor) -> Any:
        check(*tensors[:count])
        return function(*tensors)

    return run
