"""AOTInductor packages: what `torch._inductor.aoti_compile_and_package` writes (`.pt2`).

A package is a shared library: loading it runs native code, and it runs on CPUs like the one that it was compiled for.
The signature is the operator's, or the package's own: the compile option `aot_inductor.metadata` with the keys
`ringbroker.inputs`, `ringbroker.outputs` and `ringbroker.maxima`, each a JSON object.

Compiled code checks nothing when it runs. Given a batch that is strided, or a size that was fixed otherwise, it reads
other memory and answers wrongly, without a word (measured). Its own checks can be turned on by an environment variable,
but refuse single rows. So it is kept from wrong inputs by others:

- plans refuse inputs that are not contiguous, and dims below what the package was compiled for;
- the declaration is compared with the dtypes, sizes, bounds and strides that the package's source tells
  (`broker.engine.formats.compiled`), which the packager puts beside the library.

Of a package without that source, nothing but the trial runs at load proves that the declaration is right: they see a
wrong shape of a result, and rows of a batch that are not what they are alone; a fixed size may be declared too small.
"""

from __future__ import annotations

import json
import operator
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch

from broker.engine import signature as signatures
from broker.engine.config import ModelConfig
from broker.engine.failure import told
from broker.engine.formats import compiled
from broker.engine.formats.order import in_file_order
from broker.engine.plan import CopyingPlan, Plan, Tensors
from broker.engine.probe import Probe
from broker.engine.signature import Shape
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature

_PLAIN_LEAST = 2  # what torch takes for a dim without a lower bound; one row, or a size of 1, runs all the same
_MODEL = "model"  # the packager's name for the only model of a package
_CPU_FLAGS = {"AVX2": "avx2", "AVX512": "avx512f", "AVX512_VNNI": "avx512_vnni", "AMX_TILE": "amx_tile"}
_CPUINFO = Path("/proc/cpuinfo")


class Least(NamedTuple):
    """A dim of an input that must not be smaller."""

    of_input: int
    axis: int
    size: int


@dataclass(frozen=True, slots=True)
class PreparedPackage:
    """A package, its library not loaded yet."""

    signature: Signature
    path: Path
    max_batch: int | None
    minima: Mapping[str, int]
    least: tuple[Least, ...]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    computed_dims: frozenset[str] = frozenset()
    state: str | None = None

    survives_fork: ClassVar[bool] = True

    def bind(self, threads: int, device: str, probe: Probe) -> Plan:
        """Load the library; raises `RingbrokerError` MODEL_INVALID. See `plan.Prepared.bind`."""
        torch.set_num_threads(threads)
        try:
            loader = torch._C._aoti.AOTIModelPackageLoader(str(self.path), _MODEL, False, 1, -1)
            function = _caller(loader, [tensor.name for tensor in self.signature.outputs], self.path)
        except (RuntimeError, ValueError, LookupError, TypeError) as error:
            raise _invalid(f"the library cannot be loaded: {told(error)}", self.path) from error
        return CompiledPlan(function, self.signature, self.least)


class CompiledPlan:
    """Runs compiled code, and copies its results."""

    accepts_strides = False

    def __init__(self, function: Callable[..., Any], signature: Signature, least: tuple[Least, ...] = ()) -> None:
        self._plan = CopyingPlan(function, signature, "compiled code allocates its results")
        self.ledger = self._plan.ledger
        self.routes = self._plan.routes
        self._least = least

    def run(self, inputs: Tensors, outputs: Tensors) -> tuple[Shape, ...] | None:
        """See `Plan.run`; raises ValueError for inputs that the code would misread."""
        for index, tensor in enumerate(inputs):
            if not tensor.is_contiguous():
                raise ValueError(f"inputs[{index}] is not contiguous, and compiled code would misread it")
        for index, axis, size in self._least:
            if inputs[index].shape[axis] < size:
                raise ValueError(f"inputs[{index}]: dim {axis} was compiled for {size} and more")
        return self._plan.run(inputs, outputs)


def is_package(names: list[str]) -> bool:
    """Whether these are the files of a package's archive: a library, and no exported program to take instead."""
    has_library = any(name.endswith(".so") for name in names)
    return has_library and not any(len(parts := name.split("/")) > 2 and parts[1] == "models" for name in names)


def prepare(path: Path, config: ModelConfig) -> PreparedPackage:
    """Read what the package says of itself.

    Raises `RingbrokerError` MODEL_INVALID, SIGNATURE_INVALID or CONFIG_INVALID.
    """
    package = _open(path)
    _check_machine(package.metadata, path)
    config = _with_metadata(config, package.metadata, path)
    if not config.inputs or not config.outputs:
        text = "its file has no names: declare inputs and outputs, or put them into the package's metadata"
        raise signatures.invalid(text, config.name)
    if package.facts is None:
        signature = signatures.declare(config.inputs, config.outputs, config.maxima)
        return PreparedPackage(signature, path, None, {}, ())
    declared = compiled.compare(config.inputs, package.facts, config.maxima, config.name)
    if declared.least_rows > _PLAIN_LEAST:
        text = (
            f"it was compiled for batches of at least {declared.least_rows} rows, and a request may have a single one"
        )
        raise signatures.invalid(text, f"{config.name}.{signatures.BATCH}")
    minima = {dim: size for dim, size in declared.minima.items() if size > _PLAIN_LEAST}
    signature = signatures.declare(config.inputs, config.outputs, declared.maxima)
    return PreparedPackage(signature, path, declared.max_batch, minima, _least(signature, minima))


def _least(signature: Signature, minima: Mapping[str, int]) -> tuple[Least, ...]:
    return tuple(
        Least(index, axis, minima[dim])
        for index, tensor in enumerate(signature.inputs)
        for axis, dim in enumerate(tensor.shape)
        if isinstance(dim, str) and dim in minima
    )


def _caller(loader: Any, declared: list[str], path: Path) -> Callable[..., Any]:
    """The library as a function that returns its results in the declared order.

    `boxed_run` empties the list that it is given. The package's own call reads the trees of its arguments from JSON
    every time: 13 us against 2 us.
    """
    tree = json.loads(loader.get_call_spec()[1])[1]
    leaves = _count_leaves(tree)
    if leaves != len(declared):
        text = f"{len(declared)} outputs are declared, and the package has {leaves}"
        raise RingbrokerError(Code.CONFIG_INVALID, text, str(path))
    names = json.loads(tree["context"]) if tree["type"] == "builtins.dict" else []
    if len(names) == leaves:
        ordered = list(in_file_order(dict.fromkeys(declared, ""), names, "outputs", str(path)))
        if ordered != declared:
            order = [ordered.index(name) for name in declared]
            return lambda *inputs: operator.itemgetter(*order)(loader.boxed_run(list(inputs)))
    return lambda *inputs: loader.boxed_run(list(inputs))


def _count_leaves(tree: Mapping[str, Any]) -> int:
    return 1 if tree["type"] is None else sum(map(_count_leaves, tree["children_spec"]))


class _Package(NamedTuple):
    metadata: dict[str, Any]
    facts: compiled.Facts | None


def _open(path: Path) -> _Package:
    try:
        with zipfile.ZipFile(path) as archive:
            # Torch does not compare checksums, and would run a damaged library (measured).
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"{damaged} is damaged")
            names = archive.namelist()
            metadata = [json.loads(archive.read(name)) for name in names if name.endswith(".wrapper_metadata.json")]
            sources = [archive.read(name).decode() for name in names if name.endswith(".wrapper.cpp")]
    except Exception as error:  # wrong bytes bring about nearly any
        raise _invalid(f"not a package that can be read: {told(error)}", path) from error
    if len(metadata) > 1 or not all(isinstance(found, dict) for found in metadata):
        raise _invalid(f"it holds {len(metadata)} models, and one can be served", path)
    return _Package(metadata[0] if metadata else {}, compiled.read(sources[0]) if len(sources) == 1 else None)


def _check_machine(metadata: Mapping[str, Any], path: Path) -> None:
    """Refuse code for another device or processor, which would not answer but kill the process."""
    device = metadata.get("AOTI_DEVICE_KEY", "cpu")
    if device != "cpu":
        raise _invalid(f"it was compiled for {device}, and models are served on cpu", path)
    try:
        has = set(_CPUINFO.read_text().split())
    except OSError:
        return
    wanted = str(metadata.get("AOTI_CPU_ISA", "")).split()
    lacking = [word for word, flag in _CPU_FLAGS.items() if word in wanted and flag not in has]
    if lacking:
        raise _invalid(f"it was compiled for a CPU with {', '.join(lacking)}, which this one lacks", path)


def _with_metadata(config: ModelConfig, metadata: Mapping[str, Any], path: Path) -> ModelConfig:
    """The operator's words, and the package's own where the operator says nothing."""
    own: dict[str, dict[str, Any]] = {}
    for key, kind in (("inputs", str), ("outputs", str), ("maxima", int)):
        text = metadata.get(f"ringbroker.{key}")
        try:
            found = {} if text is None else json.loads(text)
        except (TypeError, ValueError) as error:
            raise _invalid(f"its metadata ringbroker.{key} is not JSON: {error}", path) from error
        if not isinstance(found, dict) or not all(isinstance(value, kind) for value in found.values()):
            raise _invalid(f"its metadata ringbroker.{key} is no object of {kind.__name__} values", path)
        own[key] = {**found, **getattr(config, key)}
    for side in ("inputs", "outputs"):
        for name in getattr(config, side):
            if f"ringbroker.{side}" in metadata and name not in json.loads(metadata[f"ringbroker.{side}"]):
                text = f"the package's {side} are {', '.join(json.loads(metadata[f'ringbroker.{side}']))}"
                raise RingbrokerError(Code.CONFIG_INVALID, text, f"{config.name}.{name}")
    return replace(config, inputs=own["inputs"], outputs=own["outputs"], maxima=own["maxima"])


def _invalid(text: str, path: Path) -> RingbrokerError:
    return RingbrokerError(Code.MODEL_INVALID, text, str(path))
