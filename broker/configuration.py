"""The configuration: one file, and the flags that overrule it, read into a `ServeConfig`.

    [server]        settings of the whole broker: SETTINGS of `broker.settings`, the words of the flags
    [[pool]]        name, models, workers, threads
    [[model]]       name, source (or factory), and what a model.toml says; without a source: of the repository's model

Paths are relative to the file. It is read anew for every reload. No torch here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from broker import tables
from broker.config import DEFAULT_POOL, PoolConfig, ServeConfig
from broker.engine import keys
from broker.engine.config import ModelConfig, check, is_factory, is_name
from broker.engine.repository import read_repository, versions_of
from broker.options import apply_options
from broker.settings import MODEL_KEYS, POOL_KEYS, SETTINGS
from broker.tables import Key, invalid, suggestion
from ringbuf.address import default_socket_path
from ringbuf.errors import Code, RingbrokerError

_TABLES = {
    "server": Key("a table [server]", tables.is_table),
    "pool": Key("a list of tables [[pool]]", tables.list_of(tables.is_table)),
    "model": Key("a list of tables [[model]]", tables.list_of(tables.is_table)),
}

Problems = list[RingbrokerError]


@dataclass(frozen=True)
class Given:
    """What the command line says."""

    config_path: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By their names in SETTINGS; those that were not given are not there."""
    models: tuple[ModelConfig, ...] = ()
    pools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name, with what POOL_KEYS has."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What describes the models: see `broker.options`."""


@dataclass(frozen=True)
class Configuration:
    """What is in effect, what the file alone says, and all that is wrong."""

    config: ServeConfig
    settings: Mapping[str, Any]
    """Of the file."""
    models: Mapping[str, ModelConfig]
    """Of the repository, the file and the arguments, before the flags."""
    pools: Mapping[str, Mapping[str, Any]]
    """Of the file."""
    problems: Problems


def read(given: Given) -> ServeConfig:
    """What is in effect; raises the first `RingbrokerError` of what is wrong: CONFIG_INVALID, MODEL_NOT_FOUND or
    SIGNATURE_INVALID.
    """
    found = examine(given)
    for problem in found.problems:
        raise problem
    return found.config


def examine(given: Given) -> Configuration:
    """Read everything; what is wrong is left out, and told."""
    problems: Problems = []
    path = Path(given.config_path) if given.config_path else None
    base = path.absolute().parent if path else Path()
    told = _read_tables(path, problems)
    settings = _read_settings(told.get("server", {}), base, problems)
    effective = {**settings, **given.settings}
    models = _read_models(told.get("model", []), effective.get("repository"), base, problems)
    for model in given.models:  # its source overrules the file's
        models[model.name] = replace(models.get(model.name, model), source=model.source)
    described = _describe(tuple(models.values()), given.options, problems)
    if not described and not problems:
        problems.append(invalid("there is no model to serve", "model"))
    values = {SETTINGS[word].field: value for word, value in effective.items()}
    socket_path = values.pop("socket_path", None) or default_socket_path()
    config = ServeConfig(described, socket_path, config_path=given.config_path, **values)
    pools = _read_pools(told.get("pool", []), problems)
    config = replace(config, pools=_make_pools(pools, given.pools, config, problems))
    return Configuration(config, settings, models, pools, problems)


@contextmanager
def _told_to(problems: Problems) -> Iterator[None]:
    """Append what is raised to the problems."""
    try:
        yield
    except RingbrokerError as error:
        problems.append(error)
    except OSError as error:  # such as a folder that may not be looked into
        problems.append(invalid(f"it cannot be read: {error.strerror}", str(error.filename)))


def _read_tables(path: Path | None, problems: Problems) -> dict[str, Any]:
    if path is None:
        return {}
    table: dict[str, Any] = {}
    with _told_to(problems):
        table = tables.load(path)
    for word in [word for word in table if word in SETTINGS]:
        problems.append(invalid("it belongs in the table [server]", word))
        del table[word]
    return tables.read(table, _TABLES, "", problems)


def _read_settings(table: Mapping[str, Any], base: Path, problems: Problems) -> dict[str, Any]:
    known = {word: setting.key for word, setting in SETTINGS.items()}
    found = tables.read(table, known, "server", problems)
    return {word: str(base / value) if SETTINGS[word].is_path else value for word, value in found.items()}


# --- models ---


def _read_models(
    told: list[dict[str, Any]], repository: str | None, base: Path, problems: Problems
) -> dict[str, ModelConfig]:
    """The repository's models and the file's, by name."""
    models: dict[str, ModelConfig] = {}
    if repository is not None:
        with _told_to(problems):
            models = {model.name: model for model in read_repository(Path(repository))}
    seen: set[str] = set()
    for number, table in enumerate(told):
        path = table["name"] if is_name(table.get("name")) else f"model[{number}]"
        values = keys.read(table, MODEL_KEYS, base, path, problems)
        name = values.pop("name", None)
        if name in seen:
            problems.append(invalid("another model has this name", path))
        if name is None or name in seen:
            continue
        seen.add(name)
        sources = [values.pop(word) for word in ("source", "factory") if word in values]
        source = models[name].source if name in models else ""
        if len(sources) + bool(source) > 1:
            problems.append(invalid("its source is said twice: source, factory, or a folder of the repository", path))
        elif not sources and not source and not {"source", "factory"} & set(table):
            problems.append(invalid("it needs a source, or a factory", path))
        elif sources:
            source = sources[0] if is_factory(sources[0]) else str(base / sources[0])
        models[name] = ModelConfig(name=name, source=source, **values)
    return models


def _describe(
    models: tuple[ModelConfig, ...], options: Mapping[str, Any], problems: Problems
) -> tuple[ModelConfig, ...]:
    """The models as the flags describe them, checked as far as it can be done without loading one."""
    for model in models:
        with _told_to(problems):
            check(model)
    if not problems and options:  # else they may be about what is wrong
        with _told_to(problems):
            models = apply_options(models, options)
    for model in models:
        with _told_to(problems):
            _check_source(model)
    return models


def _check_source(model: ModelConfig) -> None:
    if model.source and not is_factory(model.source) and not Path(model.source).exists():
        raise RingbrokerError(Code.MODEL_NOT_FOUND, "there is no such file or folder", model.source)
    for version in versions_of(model):
        check(version)


# --- pools ---


def _read_pools(told: list[dict[str, Any]], problems: Problems) -> dict[str, dict[str, Any]]:
    """What the file says of each pool, by name."""
    pools: dict[str, dict[str, Any]] = {}
    for number, table in enumerate(told):
        path = f"pool.{table['name']}" if is_name(table.get("name")) else f"pool[{number}]"
        values = tables.read(table, POOL_KEYS, path, problems)
        name = values.pop("name", None)
        if name in pools:
            problems.append(invalid("another pool has this name", path))
        if name is not None:
            pools[name] = values
    return pools


def _make_pools(
    told: Mapping[str, Mapping[str, Any]],
    given: Mapping[str, Mapping[str, Any]],
    config: ServeConfig,
    problems: Problems,
) -> tuple[PoolConfig, ...]:
    for name, values in given.items():
        if name not in {*told, DEFAULT_POOL} and "models" not in values:
            text = f"there is no pool {name!r}{suggestion(name, {*told, DEFAULT_POOL})}"
            problems.append(invalid(text, f"--pool-{next(iter(values))} {name}"))
    pools = []
    for name in dict.fromkeys([*told, *given]):
        values = {**told.get(name, {}), **given.get(name, {})}
        workers, threads = values.get("workers", config.workers), values.get("threads", config.threads)
        pools.append(PoolConfig(name, values.get("models", ()), workers, threads))
    _check_members(pools, config, problems)
    return tuple(pools)


def _check_members(pools: list[PoolConfig], config: ServeConfig, problems: Problems) -> None:
    served = [model.name for model in config.models]
    pool_of: dict[str, str] = {}
    for pool in pools:
        for model in pool.models:
            if model not in served:
                text = f"no model {model!r} is served{suggestion(model, served)}"
                problems.append(invalid(text, f"pool.{pool.name}.models"))
            elif model in pool_of:
                text = f"the model {model!r} is in the pool {pool_of[model]!r} already"
                problems.append(invalid(text, f"pool.{pool.name}.models"))
            pool_of[model] = pool.name
    for pool in replace(config, pools=tuple(pools)).all_pools():
        if not pool.models and served:
            problems.append(invalid("no model is in it", f"pool.{pool.name}"))
