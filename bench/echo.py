"""A raw echo over a Unix socket: the least that any answer from another process costs.

`python -m bench.echo PATH spin|sleep`.
"""

from __future__ import annotations

import socket
import sys
import time

SPIN_NS = 10**6  # then it sleeps, so as not to disturb the other contenders' turns


def serve(path: str, *, spins: bool) -> None:
    """Echo whatever one client after another sends."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print("listening", flush=True)
    while True:
        sock, _ = listener.accept()
        while data := receive(sock, spins=spins):
            sock.send(data)


def receive(sock: socket.socket, *, spins: bool) -> bytes:
    """Receive, by spinning first or by sleeping at once."""
    if spins:
        end_ns = time.perf_counter_ns() + SPIN_NS
        while time.perf_counter_ns() < end_ns:
            for _ in range(32):
                try:
                    return sock.recv(65536, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    pass
    return sock.recv(65536)


if __name__ == "__main__":
    serve(sys.argv[1], spins=sys.argv[2] == "spin")
