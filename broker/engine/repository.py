"""Repositories: models as folders, with what the operator says of them beside the files.

    models/NAME/VERSION/model.pt2      one model file: called `model.*`, or the only one of a known suffix
    models/NAME/model.toml             what holds for all versions
    models/NAME/VERSION/model.toml     what holds for this one; its keys go before

A version is a whole number or a name; served is the largest number, and the last name where there is no number. The
keys of `model.toml` are those of `ModelConfig`; `factory` names a factory instead of a file. Paths are relative to the
folder of the file that says them. No torch here.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from broker.engine.config import ModelConfig, is_number, is_range
from ringbuf.errors import Code, RingbrokerError

CONFIG_FILE = "model.toml"

_SUFFIXES = frozenset({".jit", ".onnx", ".pkl", ".pt", ".pt2", ".pth", ".ts"})
_WHERE = frozenset({"name", "source", "version", "is_candidate"})  # what a folder's place says, and no table


class Key(NamedTuple):
    """One key of a table."""

    expects: str
    is_right: Callable[[Any], bool]
    read: Callable[[Any], Any] = lambda value: value


def config_from_table(
    name: str, source: str | None, table: Mapping[str, Any], base: Path, version: str = ""
) -> ModelConfig:
    """One model from a table that `tomllib` read; `base` is the folder to which its paths are relative.

    `source` is None where the table has a `factory`. Raises `RingbrokerError` CONFIG_INVALID.
    """
    values: dict[str, Any] = {}
    for word, value in table.items():
        key = _KEYS.get(word)
        if key is None:
            near = difflib.get_close_matches(word, _KEYS, 1)
            hint = f": did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(_KEYS))}"
            raise _invalid(f"there is no key {word!r}{hint}", f"{name}.{word}")
        if not key.is_right(value):
            raise _invalid(f"{value!r} is not {key.expects}", f"{name}.{word}")
        values[word] = key.read(value)
    factory = values.pop("factory", None)
    if (factory is None) == (source is None):
        text = "it has both a file and a factory" if source else "it has neither a file nor a factory"
        raise _invalid(text, name)
    if "weights" in values:
        values["weights"] = str(base / values["weights"])
    return ModelConfig(name=name, source=str(factory or source), version=version, **values)


def read_repository(folder: Path) -> list[ModelConfig]:
    """The newest version of every model in `models/`, by name.

    Raises `RingbrokerError` MODEL_NOT_FOUND or CONFIG_INVALID.
    """
    names = _folders(folder)
    if not names:
        raise _not_found("the repository has no model: a model is a folder NAME/VERSION with a file", folder)
    return [_read_version(_newest(name), name.name) for name in names]


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
    candidate = config.canary.version if config.canary else None
    folder = Path(config.source)
    if not _is_folder(config.source) or not _folders(folder):
        if config.versions or candidate:
            raise _invalid("only a folder of versions, NAME/VERSION, has several", config.name)
        return [resolve(config)]
    usual = config.version or max((each for each in _folders(folder) if each.name != candidate), key=_age).name
    if usual == candidate:
        raise _invalid(f"version {usual} is the usual one, and cannot be its own canary", f"{config.name}.canary")
    wanted = dict.fromkeys([usual, *config.versions, *([candidate] if candidate else [])])
    return [
        resolve(replace(config, source=str(folder / version), version=version, is_candidate=version == candidate))
        for version in wanted
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
    table = {**shared, **own}
    source = None
    if "factory" not in table:
        source = str(_model_file(folder, table.get("weights")))
    base = folder if "weights" in own else folder.parent
    return config_from_table(name, source, table, base, folder.name)


def _read_table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:  # not TOML, not UTF-8, or tables in tables without an end
        raise _invalid(f"it cannot be read: {error}", str(path)) from error


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
        raise _invalid(text, str(folder))
    found = f"; there are {', '.join(path.name for path in files)}" if files else ""
    raise _not_found(f"the version has no model file ({', '.join(sorted(_SUFFIXES))}){found}", folder)


def _newest(folder: Path) -> Path:
    versions = _folders(folder)
    if not versions:
        raise _not_found("the model has no version: a model is a folder NAME/VERSION with a file", folder)
    return max(versions, key=_age)


def _age(version: Path) -> tuple[bool, int, str]:
    is_number = version.name.isascii() and version.name.isdigit()
    return is_number, int(version.name) if is_number else 0, version.name


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder, Path.is_dir) if path.name != "__pycache__"]


def _entries(folder: Path, is_wanted: Callable[[Path], bool]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and is_wanted(path))
    except OSError as error:
        raise _not_found(f"the folder cannot be read: {error.strerror}", folder) from error


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**53


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _table_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(is_right, value.values()))


_TENSORS = Key("a table such as { image = 'F32[batch,8,8]' }", _table_of(_is_text))
_FLAG = Key("true or false", lambda value: isinstance(value, bool))
_KEYS: dict[str, Key] = {
    "factory": Key("a text such as 'package.module:factory'", _is_text),
    "inputs": _TENSORS,
    "outputs": _TENSORS,
    "maxima": Key("a table such as { seq = 256 }", _table_of(lambda value: _is_whole(value, 1))),
    "ranges": Key(
        "a table such as { ids = [0, 30521] }, the smaller number first",
        _table_of(is_range),
        lambda table: {name: (low, high) for name, (low, high) in table.items()},
    ),
    "uniform": Key(
        "a list of inputs' names", lambda value: isinstance(value, list) and all(map(_is_text, value)), frozenset
    ),
    "arguments": Key("a table of the factory's arguments", lambda value: isinstance(value, dict)),
    "weights": Key("a file's path", _is_text),
    "max_batch": Key("a whole number from 1", lambda value: _is_whole(value, 1)),
    "max_queue_delay_us": Key("a whole number of microseconds", lambda value: _is_whole(value, 0)),
    "gather": Key("'never' or 'always'", lambda value: value in ("never", "always")),
    "batch_tolerance": Key("a number from 0", lambda value: is_number(value) and value >= 0),
    "private_inputs": _FLAG,
    "allow_pickle": _FLAG,
    "require_zero_copy": _FLAG,
}


def _invalid(text: str, path: str) -> RingbrokerError:
    return RingbrokerError(Code.CONFIG_INVALID, text, path)


def _not_found(text: str, folder: Path) -> RingbrokerError:
    return RingbrokerError(Code.MODEL_NOT_FOUND, text, str(folder))
