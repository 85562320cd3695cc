"""The admin socket, `SOCKET.admin`: one line asks, one JSON document answers, and the connection ends.

The client's half, `ask`, is what `broker status`, `broker health` and `broker reload` call.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ringbuf.errors import Code, RingbrokerError

if TYPE_CHECKING:
    from broker.loop import Connection

SUFFIX = ".admin"
_MAX_LINE_BYTES = 1024
_PATIENCE_NS = 5 * 10**9  # a line is asked at once

Commands = dict[str, Callable[["AdminPeer"], dict[str, Any] | None]]
"""Each gives its answer, or None where it calls `AdminPeer.answer` later."""


class AdminPeer:
    """One admin connection."""

    receive_bytes = _MAX_LINE_BYTES
    has_more = False

    def __init__(self, commands: Commands) -> None:
        self.connection: Connection
        self.out = bytearray()
        self.descriptors: list[int] = []
        self.ended = False
        self.patience_ns: int | None = _PATIENCE_NS
        self._commands = commands
        self._line = b""

    def receive(self, data: bytes, now_ns: int) -> None:
        """Answer once the line is whole."""
        self._line += data
        line, newline, _ = self._line.partition(b"\n")
        if not newline and len(line) < _MAX_LINE_BYTES:
            return
        command = self._commands.get(line.decode(errors="replace"))
        answer = command(self) if command else {"error": "unknown command", "commands": sorted(self._commands)}
        if answer is not None:
            self.answer(answer)

    def answer(self, answer: dict[str, Any]) -> None:
        """Answer, and end."""
        self.out += json.dumps(answer).encode()
        self.ended = True

    def expire(self) -> None:
        """End a connection that asked nothing."""
        self.ended = True

    def closed(self) -> None:
        """The connection is gone."""


def ask(socket_path: str, command: str, timeout_s: float = 5.0) -> dict[str, Any]:
    """Ask the broker on `socket_path`; raises `RingbrokerError` BROKER_LOST where none answers."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(socket_path + SUFFIX)
            sock.sendall(command.encode() + b"\n")
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        return json.loads(answer)  # type: ignore[no-any-return]
    except OSError as error:
        raise _lost(socket_path, error.strerror or str(error)) from error
    except ValueError as error:
        raise _lost(socket_path, "it went in the middle of its answer") from error


def _lost(socket_path: str, why: str) -> RingbrokerError:
    return RingbrokerError(Code.BROKER_LOST, f"no broker answers on {socket_path}: {why}")
