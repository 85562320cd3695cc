"""Repositories: models as folders, with what the operator says of them beside the files.

    models/NAME/VERSION/model.pt2      one model file: called `model.*`, or the only one of a known suffix
    models/NAME/model.toml             what holds for all versions
    models/NAME/VERSION/model.toml     what holds for this one; its keys go before

A version is a whole number or a name; served is the largest number, and the last name where there is no number, unless
`models/NAME/model.toml` says `version`, `versions` or `canary`. What a `model.toml` may say is in `broker.engine.keys`;
its paths are relative to its folder. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

from broker import tables
from broker.engine import keys
from broker.engine.config import ModelConfig
from broker.tables import Key, invalid, suggestion
from ringbuf.errors import Code, RingbrokerError

CONFIG_FILE = "model.toml"

_SUFFIXES = frozenset({".jit", ".onnx", ".pkl", ".pt", ".pt2", ".pth", ".ts"})
_WHERE = frozenset({"name", "source", "version", "is_candidate"})  # what a folder's place says, and no table


def config_from_table(
    name: str, source: str | None, table: Mapping[str, Any], base: Path, version: str = ""
) -> ModelConfig:
    """One model from a table that `tomllib` read; `base` is the folder to which its paths are relative.

    `source` is None where the table has a `factory`. Raises `RingbrokerError` CONFIG_INVALID.
    """
    values = _read(table, keys.KEYS, base, name)
    factory = values.pop("factory", None)
    if (factory is None) == (source is None):
        text = "it has both a file and a factory" if source else "it has neither a file nor a factory"
        raise invalid(text, name)
    return ModelConfig(name=name, source=str(factory or source), version=version, **values)


def read_repository(folder: Path) -> list[ModelConfig]:
    """Every model in `models/`, by name; its versions are found when they are loaded.

    Raises `RingbrokerError` MODEL_NOT_FOUND.
    """
    names = _folders(folder)
    if not names:
        raise _not_found("the repository has no model: a model is a folder NAME/VERSION with a file", folder)
    for name in names:
        _newest(name)
    return [ModelConfig(name=name.name, source=str(name.absolute())) for name in names]


def read_model(folder: Path) -> ModelConfig:
    """The model in `models/NAME`, in its newest version, or in `models/NAME/VERSION`.

    Raises `RingbrokerError` MODEL_NOT_FOUND or CONFIG_INVALID.
    """
    folder = folder.absolute()
    if _folders(folder):
        return _read_version(_newest(folder), folder.name)
    return _read_version(folder, folder.parent.name)


def versions_of(config: ModelConfig) -> list[ModelConfig]:
    """Every version to load, the usual one first, as `resolve` gives each.

    Raises `RingbrokerError` MODEL_NOT_FOUND or CONFIG_INVALID.
    """
    folder = Path(config.source)
    there = [each.name for each in _folders(folder)] if _is_folder(config.source) else []
    if not there:
        if config.versions or config.canary:
            raise invalid("only a folder of versions, NAME/VERSION, has several", config.name)
        return [resolve(config)]
    config = _with_versions(config, folder)
    candidate = config.canary.version if config.canary else ""
    usual = config.version or max((each for each in there if each != candidate), key=_age, default=candidate)
    if usual == candidate:
        raise invalid(f"version {usual} is the usual one, and cannot be its own canary", f"{config.name}.canary")
    wanted = {"version": (usual,), "versions": config.versions, "canary": (candidate,) if candidate else ()}
    for key, versions in wanted.items():
        for absent in [version for version in versions if version not in there]:
            raise invalid(f"there is no version {absent!r}{suggestion(absent, there)}", f"{config.name}.{key}")
    return [
        resolve(replace(config, source=str(folder / version), version=version, is_candidate=version == candidate))
        for version in dict.fromkeys(chain(*wanted.values()))
    ]


def resolve(config: ModelConfig) -> ModelConfig:
    """What a folder's files say, and `config` where it differs from the defaults; another source is left as it is.

    Raises `RingbrokerError` MODEL_NOT_FOUND or CONFIG_INVALID.
    """
    if not _is_folder(config.source):
        return replace(config, version=config.version or "1")
    found = read_model(Path(config.source))
    plain = ModelConfig(name=config.name, source=config.source)
    said: dict[str, Any] = {"name": config.name, "is_candidate": config.is_candidate}
    for field in fields(ModelConfig):
        value = getattr(config, field.name)
        if field.name not in _WHERE and value != getattr(plain, field.name):
            said[field.name] = {**getattr(found, field.name), **value} if isinstance(value, Mapping) else value
    return replace(found, **said)


def _is_folder(source: str) -> bool:
    try:
        return Path(source).is_dir()
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        raise _not_found(f"it cannot be read: {error.strerror}", Path(source)) from error


def _read_version(folder: Path, name: str) -> ModelConfig:
    shared, own = _read_table(folder.parent / CONFIG_FILE), _read_table(folder / CONFIG_FILE)
    table = {**{word: value for word, value in shared.items() if word not in keys.VERSION_KEYS}, **own}
    source = None
    if "factory" not in table:
        source = str(_model_file(folder, table.get("weights")))
    base = folder if "weights" in own else folder.parent
    return config_from_table(name, source, table, base, folder.name)


def _with_versions(config: ModelConfig, folder: Path) -> ModelConfig:
    """The model with what its `model.toml` says of its versions, where the operator says nothing."""
    table = _read_table(folder / CONFIG_FILE)
    found = _read(
        {word: value for word, value in table.items() if word in keys.VERSION_KEYS},
        keys.VERSION_KEYS,
        folder,
        config.name,
    )
    return replace(config, **{word: value for word, value in found.items() if not getattr(config, word)})


def _read(table: Mapping[str, Any], known: Mapping[str, Key], base: Path, name: str) -> dict[str, Any]:
    problems: list[RingbrokerError] = []
    values = keys.read(table, known, base, name, problems)
    if problems:
        raise problems[0]
    return values


def _read_table(path: Path) -> dict[str, Any]:
    return tables.load(path) if path.exists() else {}


def _model_file(folder: Path, weights: object) -> Path:
    """The one file that is a model, by its name alone: what it holds is looked at when it is loaded."""
    files = _entries(folder, Path.is_file)
    known = [path for path in files if path.suffix in _SUFFIXES and path.name != weights]
    chosen = [path for path in known if path.stem == "model"] or known
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        text = (
            f"there are several model files, {', '.join(path.name for path in chosen)}: call the one to serve model.*"
        )
        raise invalid(text, str(folder))
    found = f"; there are {', '.join(path.name for path in files)}" if files else ""
    raise _not_found(f"the version has no model file ({', '.join(sorted(_SUFFIXES))}){found}", folder)


def _newest(folder: Path) -> Path:
    versions = _folders(folder)
    if not versions:
        raise _not_found("the model has no version: a model is a folder NAME/VERSION with a file", folder)
    return max(versions, key=lambda version: _age(version.name))


def _age(version: str) -> tuple[bool, int, str]:
    is_number = version.isascii() and version.isdigit()
    return is_number, int(version) if is_number else 0, version


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder, Path.is_dir) if path.name != "__pycache__"]


def _entries(folder: Path, is_wanted: Callable[[Path], bool]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and is_wanted(path))
    except OSError as error:
        raise _not_found(f"the folder cannot be read: {error.strerror}", folder) from error


def _not_found(text: str, folder: Path) -> RingbrokerError:
    return RingbrokerError(Code.MODEL_NOT_FOUND, text, str(folder))
