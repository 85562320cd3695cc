"""Health: whether the broker lives, and whether it is ready, as `broker health` and two HTTP paths tell it.

It lives where the supervisor answers, whatever its workers do. It is ready where every pool of the generation that
serves has a worker that takes connections, and the broker is not on its way out.

`broker health` is run every few seconds by whoever watches the broker, so nothing that takes long to import is
imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from broker import admin
from ringbuf.address import default_socket_path
from ringbuf.errors import RingbrokerError

if TYPE_CHECKING:
    from broker.loop import Connection
    from broker.supervisor import Supervisor

MAX_PROBES = 64
"""HTTP connections at a time; any user of the host can make one. The oldest goes where one more comes."""
_TIMEOUT_S = 5.0
_PATIENCE_NS = 5 * 10**9  # a request is sent at once
_MAX_HEAD_BYTES = 8192
_LINES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def why_not_ready(supervisor: Supervisor) -> str | None:
    """Why the broker is not ready, for people; None where it is."""
    generation = supervisor.current
    if supervisor.is_draining:
        return "the broker is stopping"
    if generation is None:
        return "the models are being loaded"
    served = {worker.pool.name for worker in generation.workers if worker.is_serving}
    waiting = [pool.name for pool in generation.pools if pool.name not in served]
    return f"no worker serves the pool {', '.join(waiting)}" if waiting else None


# --- the command ---


def parse(arguments: Sequence[str]) -> tuple[str, bool] | None:
    """The socket's path, and whether `--ready` is there; None for what the command line's own parser is to answer."""
    path, needs_ready = default_socket_path(), False
    rest = iter(arguments)
    for argument in rest:
        word, equals, value = argument.partition("=")
        if argument == "--ready":
            needs_ready = True
        elif word == "--socket" and (value or not equals):
            path = value or next(rest, "")
        else:
            return None
    return (path, needs_ready) if path else None


def probe(socket_path: str, needs_ready: bool) -> int:
    """Ask the broker, print a line, and return the exit code."""
    try:
        why_not = admin.ask(socket_path, "health", _TIMEOUT_S)["why_not_ready"]
    except RingbrokerError as error:
        print(f"not live: {error.text}")
        return 1
    if needs_ready and why_not is not None:
        print(f"not ready: {why_not}")
        return 1
    print("ready" if needs_ready else "live")
    return 0


# --- HTTP ---


class HttpPeer:
    """One HTTP connection: one request, `GET` or `HEAD` of `/livez` or `/readyz`, is answered, and it ends."""

    receive_bytes = _MAX_HEAD_BYTES
    has_more = False

    def __init__(self, ask: Callable[[], str | None]) -> None:
        """`ask` says why the broker is not ready."""
        self.connection: Connection
        self.out = bytearray()
        self.descriptors: list[int] = []
        self.ended = False
        self.patience_ns: int | None = _PATIENCE_NS
        self._ask = ask
        self._head = b""

    def receive(self, data: bytes, now_ns: int) -> None:
        """Answer once the head is whole; a body is not looked at."""
        self._head += data
        head, blank, _ = self._head.partition(b"\r\n\r\n")
        if blank:
            self._answer(head.split(b"\r\n")[0].decode("latin-1").split(" "))
        elif len(self._head) >= _MAX_HEAD_BYTES:
            self._say(431, "the request is too long")

    def expire(self) -> None:
        """End a connection that asked nothing."""
        self.ended = True

    def closed(self) -> None:
        """The connection is gone."""

    def _answer(self, request: Sequence[str]) -> None:
        if len(request) != 3 or not request[2].startswith("HTTP/1."):
            self._say(400, "this is no HTTP request")
            return
        method, target, _ = request
        path = target.partition("?")[0]
        has_body = method != "HEAD"
        if path not in ("/livez", "/readyz"):
            self._say(404, "there are /livez and /readyz", has_body=has_body)
        elif method not in ("GET", "HEAD"):
            self._say(405, "GET it", "Allow: GET, HEAD\r\n")
        elif path == "/readyz" and (why_not := self._ask()) is not None:
            self._say(503, f"not ready: {why_not}", has_body=has_body)
        else:
            self._say(200, "ready" if path == "/readyz" else "live", has_body=has_body)

    def _say(self, status: int, text: str, header: str = "", *, has_body: bool = True) -> None:
        body = f"{text}\n".encode()
        self.out += (
            f"HTTP/1.1 {status} {_LINES[status]}\r\n{header}Content-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        ).encode()
        if has_body:
            self.out += body
        self.ended = True
