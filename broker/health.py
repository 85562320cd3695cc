"""`broker health`: whether a broker lives, and whether it is ready. A probe calls it every few seconds.

    broker health [--ready] [--socket PATH]

The supervisor answers, whatever the workers do. Live: it answers. Ready: a worker of every pool serves, and the broker
is not draining. The exit code is 0 or 1, and one line says why. Nothing but the standard library is imported, because
the rest of the command takes several times as long to import as this takes to run.
"""

from __future__ import annotations

import json
import socket
import sys

from ringbuf.address import default_socket_path

_TIMEOUT_S = 5.0
_USAGE = "usage: broker health [--ready] [--socket PATH]"


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    path, is_ready_asked = default_socket_path(), False
    while arguments:
        word, *arguments = arguments
        if word == "--ready":
            is_ready_asked = True
        elif word == "--socket" and arguments:
            path, *arguments = arguments
        elif word.startswith("--socket="):
            path = word.removeprefix("--socket=")
        else:
            print(_USAGE, file=sys.stdout if word == "--help" else sys.stderr)
            return 0 if word == "--help" else 2
    try:
        found = ask(path)
    except (OSError, ValueError) as error:
        print(f"not live: no broker answers on {path}: {error}")
        return 1
    print("ready" if found["ready"] else f"live, not ready: {found['why']}")
    return 0 if found["ready"] or not is_ready_asked else 1


def ask(path: str) -> dict[str, object]:
    """What the broker on that socket says of its health; raises OSError or ValueError where none answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_TIMEOUT_S)
        sock.connect(path + ".admin")
        sock.sendall(b"health\n")
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    return json.loads(answer)  # type: ignore[no-any-return]
