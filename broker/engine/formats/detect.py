"""What kind of model an operator named: by what a file holds, and never by its suffix alone."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, cast

from broker.engine.config import ModelConfig, is_factory
from broker.engine.formats import aotinductor, exported, pickled, python, torchscript
from broker.engine.formats.weights import is_safetensors
from broker.engine.plan import Prepared
from ringbuf.errors import Code, RingbrokerError

_ZIP_MAGIC = b"PK\x03\x04"
_SUPPORTED = (
    "an exported program (.pt2), TorchScript (.pt, .jit), an AOTInductor package (.pt2), ONNX (.onnx), a pickled "
    "module (.pt) or a factory package.module:factory"
)


class File(NamedTuple):
    """What is looked at to recognise a file."""

    path: Path
    head: bytes
    names: list[str]
    """Of a zip archive's members; empty for another file."""


class Kind(NamedTuple):
    """One kind of model file."""

    is_kind: Callable[[File], bool]
    prepare: Callable[[Path, ModelConfig], Prepared]


def prepare(config: ModelConfig) -> Prepared:
    """Read the model that `config.source` names: a factory, or a file.

    Raises `RingbrokerError`, with a code that spec/errors.json marks `load`.
    """
    path = Path(config.source)
    if is_factory(config.source):
        python.import_from_here()
        return python.prepare(config)
    file = _look(path)
    for name in ("arguments", "weights"):
        if getattr(config, name):
            raise RingbrokerError(Code.CONFIG_INVALID, "only a factory takes these", f"{config.name}.{name}")
    for kind in _KINDS:
        if kind.is_kind(file):
            return kind.prepare(path, config)
    raise _unknown(file)


def _look(path: Path) -> File:
    try:
        if not path.is_file():
            raise RingbrokerError(Code.MODEL_NOT_FOUND, "there is no such file", str(path))
        with path.open("rb") as file:
            head = file.read(64)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise RingbrokerError(Code.MODEL_NOT_FOUND, f"the file cannot be read: {error}", str(path)) from error
    if not head:
        raise RingbrokerError(Code.MODEL_INVALID, "the file is empty", str(path))
    if not head.startswith(_ZIP_MAGIC):
        return File(path, head, [])
    try:
        with zipfile.ZipFile(path) as archive:
            # An exported program holds archives. Where its own index is cut off, that of the last one is found.
            if min((info.header_offset for info in archive.infolist()), default=0) > 0:
                raise zipfile.BadZipFile("its index is missing")
            return File(path, head, archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        text = f"the file is truncated or corrupt: {error}"
        raise RingbrokerError(Code.MODEL_INVALID, text, str(path)) from error


def _unknown(file: File) -> RingbrokerError:
    if file.path.suffix in _CLAIMS and not file.names:
        text = f"the file is truncated, corrupt, or not {_CLAIMS[file.path.suffix]}"
        return RingbrokerError(Code.MODEL_INVALID, text, str(file.path))
    return RingbrokerError(Code.MODEL_FORMAT_UNKNOWN, f"it is none of {_SUPPORTED}", str(file.path))


def _members(file: File) -> set[str]:
    """The members' first names below the archive's own folder, such as `code` and `data.pkl`."""
    return {parts[1] for name in file.names if len(parts := name.split("/")) > 1}


def _is_torchscript(file: File) -> bool:
    return {"code", "constants.pkl"} <= _members(file)


def _is_package(file: File) -> bool:
    return aotinductor.is_package(file.names)


def _is_exported(file: File) -> bool:
    return bool(file.names) and exported.is_exported(file.path)


def _is_saved(file: File) -> bool:
    return "data.pkl" in _members(file) or pickled.LEGACY_MAGIC in file.head


def _is_weights(file: File) -> bool:
    return is_safetensors(file.path)


def _is_onnx(file: File) -> bool:
    try:
        return bool(_onnx().is_onnx(file.path))
    except ImportError:  # without its packages, only the name of a file can tell
        return file.path.suffix == ".onnx"


def _is_pickle(file: File) -> bool:
    return file.head[0] == 0x80 and file.head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _prepare_onnx(path: Path, config: ModelConfig) -> Prepared:
    try:
        return cast("Prepared", _onnx().prepare(path, config))
    except ImportError as error:
        text = f"ONNX models need packages that are not installed ({error}): pip install 'ringbroker[onnx]'"
        raise RingbrokerError(Code.RUNTIME_MISSING, text, str(path)) from error


def _onnx() -> ModuleType:
    """Imported when a file may be one: it needs packages that a broker of PyTorch models does without."""
    return importlib.import_module("broker.engine.formats.onnx")


def _refuse_weights(path: Path, config: ModelConfig) -> Prepared:
    raise pickled.holds_weights(path)


# In this order: TorchScript may hold a folder `models`, by which exported programs are known, and a package a program.
_KINDS = (
    Kind(_is_torchscript, torchscript.prepare),
    Kind(_is_package, aotinductor.prepare),
    Kind(_is_exported, exported.prepare),
    Kind(_is_saved, pickled.prepare),
    Kind(_is_weights, _refuse_weights),
    Kind(_is_pickle, pickled.prepare),
    Kind(_is_onnx, _prepare_onnx),
)
_CLAIMS = {
    ".pt2": "an exported program",
    ".pt": "what torch.save or torch.jit.save writes",
    ".pth": "what torch.save writes",
    ".jit": "a TorchScript module",
    ".onnx": "an ONNX model",
    ".safetensors": "a safetensors file",
    ".pkl": "a pickle",
}
