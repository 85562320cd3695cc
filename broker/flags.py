"""The flags of `broker serve`, which `broker config` has too: every setting of the file, and what it says of pools.

What they say is collected in a `Given`, and read with the file by `broker.configuration`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any

import click

from broker.config import ServeConfig
from broker.configuration import Given
from broker.engine.config import ModelConfig
from broker.options import model_options, parse_model, version_options
from broker.settings import POOL_KEYS, SETTINGS, Setting
from broker.tables import invalid

DEMO = ModelConfig(name="digits", source="broker.demo:digits")

_DEFAULTS = {each.name: each.default for each in fields(ServeConfig) if each.default not in (MISSING, None)}


def config_option(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The flag that names the file."""
    return click.option("--config", "config_path", metavar="FILE", help=text)


def serving_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add everything that says what is served, and how; the command gets it as keywords, for `given`."""
    decorators: list[Callable[..., Any]] = [
        click.argument("models", nargs=-1, metavar="[NAME=SOURCE]..."),
        config_option("Read this file; flags overrule it."),
        click.option("--demo", is_flag=True, help="Serve the built-in digits classifier as `digits`."),
        *(_flag(word, setting) for word, setting in SETTINGS.items()),
        click.option("--pool", multiple=True, metavar="POOL=MODEL,...", help="Give these models workers of their own."),
        click.option("--pool-workers", multiple=True, metavar="POOL=N", help="The pool's workers."),
        click.option("--pool-threads", multiple=True, metavar="POOL=N", help="Their threads."),
        model_options,
        version_options,
    ]
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def given(
    *,
    models: tuple[str, ...],
    config_path: str | None,
    demo: bool,
    pool: tuple[str, ...],
    pool_workers: tuple[str, ...],
    pool_threads: tuple[str, ...],
    **others: Any,
) -> Given:
    """What the flags say; raises `RingbrokerError` CONFIG_INVALID, and `click.UsageError`."""
    named = [parse_model(argument) for argument in models] + ([DEMO] if demo else [])
    settings = {word: others.pop(word) for word in SETTINGS}
    settings = {word: value for word, value in settings.items() if value is not None}
    if not named and config_path is None and "repository" not in settings:
        raise click.UsageError("name at least one model as NAME=SOURCE, or try --demo")
    if len({model.name for model in named}) < len(named):
        raise click.UsageError("two models have the same name")
    pools = _read_pools({"models": pool, "workers": pool_workers, "threads": pool_threads})
    return Given(config_path, settings, tuple(named), pools, others)


def _flag(word: str, setting: Setting) -> Callable[[Callable[..., None]], Callable[..., None]]:
    name, default = word.replace("_", "-"), _DEFAULTS.get(setting.field)
    if setting.parse is bool:
        return click.option(f"--{name}/--no-{name}", word, default=None, help=setting.help)
    text = setting.help + ("" if default is None else f"  [default: {default}]")
    return click.option(f"--{name}", word, metavar=setting.metavar, callback=_checked, help=text)


def _checked(_context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    """The value of a flag, held to what its key may be in the file."""
    if text is None:
        return None
    setting = SETTINGS[str(parameter.name)]
    try:
        value = setting.parse(text)
    except ValueError:
        value = text
    if not setting.key.is_right(value):
        raise click.BadParameter(f"{text!r} is not {setting.key.expects}")
    return setting.key.read(value)


def _read_pools(said: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, Any]]:
    pools: dict[str, dict[str, Any]] = {}
    for word, texts in said.items():
        flag = "--pool" if word == "models" else f"--pool-{word}"
        for text in texts:
            name, _, rest = text.partition("=")
            value: Any = rest.split(",") if word == "models" else int(rest) if rest.isdecimal() else rest
            for key, part in {"name": name, word: value}.items():
                if not POOL_KEYS[key].is_right(part):
                    raise invalid(f"{part!r} is not {POOL_KEYS[key].expects}", f"{flag} {text}")
            pools.setdefault(name, {})[word] = POOL_KEYS[word].read(value)
    return pools
