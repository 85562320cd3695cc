"""ONNX models (`.onnx`), run by ONNX Runtime on the planes' own memory.

The file says what its inputs and outputs are; the operator names dims that have no name in it. Weights stay where they
are until `bind`, which opens the session: that starts threads, as importing ONNX Runtime does, and a process may be
forked before. The packages are the extra `onnx`, and imported only for a file that is one.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from broker.engine.config import ModelConfig
from broker.engine.failure import told
from broker.engine.formats import onnx_file, onnx_plan, onnx_session
from broker.engine.plan import Plan
from broker.engine.probe import Probe
from broker.engine.reconcile import reconcile
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature


@dataclass(frozen=True, slots=True)
class PreparedOnnx:
    """An ONNX file and the signature read from it."""

    signature: Signature
    path: Path
    graph: onnx_file.Graph
    name: str
    max_batch: int | None = None  # a file sets no bounds
    minima: Mapping[str, int] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    computed_dims: frozenset[str] = frozenset()  # it does not say what its open dims depend on
    state: str | None = None

    survives_fork: ClassVar[bool] = False  # a session has threads of its own

    def bind(self, threads: int, device: str, probe: Probe) -> Plan:
        """See `plan.Prepared.bind`; raises `RingbrokerError` MODEL_INVALID for what ONNX Runtime cannot load."""
        torch.set_num_threads(threads)
        session = onnx_session.open_session(self.path, threads)
        return onnx_plan.bind(session, self.graph, self.signature, probe, self.name)


def is_onnx(path: Path) -> bool:
    """Whether the file's content is an ONNX model; looks at its first fields only."""
    try:
        with path.open("rb") as file:
            return onnx_file.is_model(file)
    except (OSError, ValueError):  # ValueError: a name with a NUL
        return False


def prepare(path: Path, config: ModelConfig) -> PreparedOnnx:
    """Read the signature; raises `RingbrokerError` RUNTIME_MISSING, MODEL_INVALID, SIGNATURE_INVALID or
    CONFIG_INVALID.
    """
    onnx = onnx_session.require("onnx", path)
    if not _is_installed("onnxruntime"):
        text = "ONNX models need onnxruntime, which is not installed: pip install 'ringbroker[onnx]'"
        raise RingbrokerError(Code.RUNTIME_MISSING, text, str(path))
    try:
        model: Any = onnx.load_model(path, format="protobuf", load_external_data=False)
        graph = onnx_file.read(model, {**config.inputs, **config.outputs})
    except RingbrokerError:
        raise
    except Exception as error:  # protobuf's, the system's, and those of a graph that is in pieces
        text = f"the file is truncated, corrupt, or not an ONNX model: {told(error)}"
        raise RingbrokerError(Code.MODEL_INVALID, text, str(path)) from error
    signature, _ = reconcile(graph.inputs, graph.outputs, config)
    return PreparedOnnx(signature=signature, path=path, graph=graph, name=config.name)


def _is_installed(package: str) -> bool:
    """Whether it could be imported; not tried, since the import alone starts a thread."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # somebody put something else in its place
        return False
