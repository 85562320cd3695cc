"""The broker's settings: the keys of its file, and, with dashes, the flags of `broker serve`.

What each means, and why its default is what it is, stands in `broker.config`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from broker import tables
from broker.config import ServeConfig
from broker.engine import keys
from broker.engine.config import is_name
from broker.tables import Key, invalid, is_number, is_text, is_whole

_MOST_RINGS = 127  # with its connection the 128 descriptors that one packet hands over at a resume (`broker.control`)
_LONGEST_S = 1_000_000  # what is longer was meant as something else


class Setting(NamedTuple):
    """One setting of the whole broker."""

    field: str
    """Of `ServeConfig`."""
    key: Key
    parse: Callable[[str], Any]
    """A flag's text; raises ValueError where it cannot be the setting's."""
    metavar: str
    help: str
    is_path: bool = False
    """Whether it is relative to the file that says it."""
    is_fixed: bool = False
    """Whether it is taken at the start alone."""


def check_reload(before: ServeConfig, after: ServeConfig) -> None:
    """Refuse what a reload cannot change; raises `RingbrokerError` CONFIG_INVALID."""
    for word, setting in SETTINGS.items():
        if setting.is_fixed and getattr(before, setting.field) != getattr(after, setting.field):
            raise invalid("a reload cannot change it: restart the broker", f"server.{word}")


def _whole(field: str, text: str, metavar: str = "N", most: int = 2**53 - 1) -> Setting:
    bounds = "from 1" if most > 2**50 else f"from 1 to {most}"
    return Setting(field, Key(f"a whole number {bounds}", lambda value: is_whole(value, 1, most)), int, metavar, text)


def _seconds(field: str, text: str, least: float = 0) -> Setting:
    key = Key(
        f"a number of seconds from {least:g} to {_LONGEST_S}",
        lambda value: is_number(value) and least <= value <= _LONGEST_S,
        float,
    )
    return Setting(field, key, float, "S", text)


def _path(field: str, text: str, metavar: str) -> Setting:
    return Setting(field, Key("a path", is_text), str, metavar, text, is_path=True)


def _is_spin(value: object) -> bool:
    try:
        ServeConfig((), "", spin=str(value)).spin_ns()
    except ValueError:
        return False
    return True


SETTINGS: dict[str, Setting] = {
    "socket": _path("socket_path", "The broker's Unix socket.  [default: per user]", "PATH")._replace(is_fixed=True),
    "repository": _path("repository", "Serve every model of this folder.", "FOLDER"),
    "workers": _whole("workers", "Processes that run the models, with the weights in common, in each pool."),
    "threads": _whole("threads", "Threads inside an op.  [default: the CPU quota, divided by all workers]"),
    "slots": _whole("default_slots", "Slots of a ring whose client does not say.", most=ServeConfig.max_slots),
    "spin": Setting(
        "spin",
        Key("auto, off, or microseconds", _is_spin, str),
        str,
        "auto|off|US",
        "How long to spin after traffic before sleeping.",
    ),
    "max_connections": _whole("max_connections", "The most connections at a time."),
    "max_rings": _whole("max_rings", "The most rings of a connection.", most=_MOST_RINGS),
    "max_ring_bytes": _whole("max_ring_bytes", "The largest ring.", "BYTES"),
    "max_memory_bytes": _whole(
        "max_memory_bytes", "The most memory of all rings together.  [default: half of what it may use]", "BYTES"
    ),
    "max_execution_s": _seconds("max_execution_s", "How long a model may run before its worker is ended.", 0.001),
    "max_load_s": _seconds("max_load_s", "How long all models may take to load.", 0.001),
    "resume_grace_s": _seconds("resume_grace_s", "How long a session whose worker was lost waits to be resumed."),
    "drain_grace_s": _seconds("drain_grace_s", "How long SIGTERM leaves clients to finish."),
    "health_port": _whole("health_port", "Answer GET /livez and /readyz on 127.0.0.1.", "PORT", most=65535)._replace(
        is_fixed=True
    ),
    "watch": Setting(
        "watch",
        Key("true or false", lambda value: isinstance(value, bool)),
        bool,
        "",
        "Reload when a model or the configuration's file is replaced.",
        is_fixed=True,
    ),
    "log_format": Setting(
        "log_format",
        Key("'text' or 'json'", lambda value: value in ("text", "json")),
        str,
        "text|json",
        "Of the log on stderr.",
        is_fixed=True,
    ),
}

POOL_KEYS: dict[str, Key] = {
    "name": Key("1 to 128 letters, digits, '_', '.', '-'", is_name, is_needed=True),
    "models": Key("a list of models' names", tables.list_of(is_text), tuple),
    "workers": SETTINGS["workers"].key,
    "threads": SETTINGS["threads"].key,
}

MODEL_KEYS: dict[str, Key] = {
    "name": Key("1 to 128 letters, digits, '_', '.', '-'", is_name, is_needed=True),
    "source": Key("a file, a folder NAME or NAME/VERSION, or a factory", is_text),
    **keys.VERSION_KEYS,
    **keys.KEYS,
}
