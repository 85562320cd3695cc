"""What `connect` was told, checked: one of it for all the connections of a client, blocking or asyncio."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from ringbroker import arguments
from ringbuf.address import default_socket_path

TIMEOUT_S = 10.0  # a broker that loads its models is up in a few seconds; one that is not there is noticed soon enough
AUTO_SPIN_US = 100  # a round trip takes 10 to 50 us beside the model; longer waits are worth a sleep
CLIENT_NAME = "ringbroker-python"

SegmentKind = Literal["path", "fd"]
SEGMENT_KINDS: tuple[SegmentKind, ...] = ("path", "fd")


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of `connect`; raises TypeError, ValueError for what is none of their values."""

    path: str
    timeout: float
    name: str
    segments: SegmentKind
    connections: int
    repost: bool
    spin_ns: int

    def __post_init__(self) -> None:
        if self.segments not in SEGMENT_KINDS:
            raise ValueError(f"segments is one of {SEGMENT_KINDS}, not {self.segments!r}")
        arguments.name("name", self.name)
        if arguments.whole("conns", self.connections) < 1:
            raise ValueError(f"conns is 1 or more, not {self.connections}")


def socket_path(path: str | os.PathLike[str] | None) -> str:
    """The broker's socket, or the default one (spec section 2)."""
    return os.fspath(path) if path is not None else default_socket_path()


def spin_ns(spin: str | float) -> int:
    """The time to spin; raises ValueError."""
    if spin == "off":
        return 0
    if spin == "auto":
        return AUTO_SPIN_US * 1000 if len(os.sched_getaffinity(0)) > 1 else 0
    if isinstance(spin, str) or spin < 0:
        raise ValueError(f"spin is 'auto', 'off' or microseconds, not {spin!r}")
    return int(spin * 1000)
