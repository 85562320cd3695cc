"""What `broker config show` tells: every value that is in effect, and where it comes from.

An origin is `default`, `file`, `flag` (or an argument), or `repository`: the folder of a model and its `model.toml`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from broker.config import PoolConfig
from broker.configuration import Configuration, Given
from broker.engine.config import ModelConfig
from broker.engine.repository import versions_of
from broker.settings import MODEL_KEYS, POOL_KEYS, SETTINGS

_MODEL_KEYS = [word for word in MODEL_KEYS if word not in ("name", "factory")]  # a factory is a source here


def as_dict(found: Configuration, given: Given) -> dict[str, Any]:
    """Everything, as JSON: `server`, and by name `pool` and `model`; of each key its value and its origin."""
    config = found.config
    return {
        "server": {
            word: _told(getattr(config, setting.field), _origin(word, given.settings, found.settings))
            for word, setting in SETTINGS.items()
        },
        "pool": {pool.name: _pool(pool, found, given) for pool in config.all_pools()},
        "model": {model.name: _model(model, found, given) for model in config.models},
    }


def as_lines(told: Mapping[str, Any]) -> list[str]:
    """The same as a file that says it all, but for what a model leaves at its default, or its folder says."""
    lines = ["[server]", *_keys(told["server"])]
    for kind in ("pool", "model"):
        for name, keys in told[kind].items():
            said = {word: each for word, each in keys.items() if kind == "pool" or each["origin"] != "default"}
            lines += ["", f"[[{kind}]]", f"name = {_toml(name)}", *_keys(said)]
    return lines


def _pool(pool: PoolConfig, found: Configuration, given: Given) -> dict[str, Any]:
    flags, told = given.pools.get(pool.name, {}), found.pools.get(pool.name, {})
    origins = {
        word: _origin(word, flags, told) if word in {**flags, **told} else _origin(word, given.settings, found.settings)
        for word in POOL_KEYS
    }
    return {word: _told(getattr(pool, word), origins[word]) for word in POOL_KEYS if word != "name"}


def _model(model: ModelConfig, found: Configuration, given: Given) -> dict[str, Any]:
    before, plain = found.models[model.name], ModelConfig(name=model.name, source=model.source)
    resolved = versions_of(model)[0]
    of_folder = "repository" if resolved.source != model.source else "default"
    told = {}
    for word in _MODEL_KEYS:
        value = getattr(model, word)
        if value != getattr(before, word):
            told[word] = _told(value, "flag")
        elif value != getattr(plain, word):
            told[word] = _told(value, "file")
        else:
            value = getattr(resolved, word)
            told[word] = _told(value, of_folder if value != getattr(plain, word) else "default")
    told["source"] = _told(model.source, _origin_of_source(model, found, given))
    return told


def _origin(word: str, flags: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    return "flag" if word in flags else "file" if word in told else "default"


def _origin_of_source(model: ModelConfig, found: Configuration, given: Given) -> str:
    if any(argument.name == model.name for argument in given.models):
        return "flag"
    repository = found.config.repository
    is_in_it = repository is not None and Path(model.source).parent == Path(repository).absolute()
    return "repository" if is_in_it else "file"


def _told(value: object, origin: str) -> dict[str, Any]:
    return {"value": msgspec.to_builtins(value), "origin": origin}


def _keys(keys: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for word, told in keys.items():
        value = told["value"]
        line = f"# {word} is not set" if value is None else f"{word} = {_toml(value)}"
        if told["origin"] == "repository":
            line = f"# {line}"
        yield f"{line:<40}  # {told['origin']}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{_toml_key(word)} = {_toml(each)}" for word, each in value.items() if each is not None)
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _toml_key(word: str) -> str:
    return word if re.fullmatch(r"[A-Za-z0-9_-]+", word) else json.dumps(word, ensure_ascii=False)
