"""In-place plans: a graph whose results are written straight into the output planes (DESIGN section 6).

Which outputs those are is found out at bind (`rehearsal`), for the two layouts that planes come in: rows that are
adjacent, and rows that lie apart. Every other output is copied, in the same call, and counted.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch.fx import Graph, GraphModule

from broker.engine.inplace.listing import compile_graph
from broker.engine.inplace.rehearsal import ADJACENT, APART, Program, Rehearsal, Unlike, Way, checked
from broker.engine.plan import CopyingPlan, CopyLedger, Plan, Route, Tensors
from broker.engine.probe import Probe
from broker.engine.signature import Shape, may_lie_apart

log = logging.getLogger("broker.engine")


class InPlacePlan:
    """Runs a graph that writes its outputs; what it cannot write is copied and counted."""

    accepts_strides = True

    def __init__(self, dense: Way, apart: Way | None, routes: tuple[Route, ...]) -> None:
        """`apart` is for rows that lie apart, in any of the tensors; None where they never do."""
        self.ledger = CopyLedger()
        self.routes = routes
        self._dense = dense
        self._apart = apart

    def run(self, inputs: Tensors, outputs: Tensors) -> tuple[Shape, ...] | None:
        """See `Plan.run`."""
        function, copied = self._dense
        if self._apart is not None:
            for tensor in (*inputs, *outputs):
                if not tensor.is_contiguous():  # 0.06 us
                    function, copied = self._apart
                    break
        results = function(*inputs, *outputs)
        if copied:
            for index, result in zip(copied, results, strict=True):
                outputs[index].copy_(result)
                self.ledger.outputs_bytes += result.nbytes
        return None


def bind(program: Program, probe: Probe) -> Plan:
    """Make the plan; for a graph that cannot be run on the probe's inputs, a plan that copies, whose trial says why."""
    rehearsal = Rehearsal(program, probe)
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        try:
            rehearsal.expect()
        except Exception as error:
            log.debug("not tried in place", extra={"model": program.name, "because": type(error).__name__})
            return copying(program, "the model's trial run failed")
        try:
            dense, routes = rehearsal.find_way(ADJACENT)
            if not any(may_lie_apart(tensor) for tensor in (*program.signature.inputs, *program.signature.outputs)):
                return InPlacePlan(dense, None, routes)
            apart, _ = rehearsal.find_way(APART)
        except Unlike as error:
            log.warning("run as torch runs it", extra={"model": program.name, "because": str(error)})
            forward = checked(program, GraphModule(program.root, program.graph).forward)
            return CopyingPlan(forward, program.signature)
    return InPlacePlan(dense, apart, tuple(_told(index, route, apart) for index, route in enumerate(routes)))


def copying(program: Program, why: str = "the model returns new tensors") -> CopyingPlan:
    """A plan that runs the graph as it is and copies its results."""
    graph = Graph()
    values: Any = graph.graph_copy(program.graph, {})
    graph.output(values[0] if len(values) == 1 else values)  # a single tensor costs 3 us less than one in a tuple
    return CopyingPlan(checked(program, compile_graph(graph, program.root)), program.signature, why)


def _told(index: int, route: Route, apart: Way) -> Route:
    if route.in_place and index in apart.copied:
        return Route(True, f"{route.why}; copied where rows lie apart")
    return route
