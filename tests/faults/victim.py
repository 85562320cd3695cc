"""Clients to be killed: `python -m tests.faults.victim SOCKET` forks one for every point that it reads from its input.

Each goes to its point of the protocol, prints its process id and stays there.
"""

import os
import select
import signal
import sys

from tests.faults.wire import HELLO, Peer, framed


def connect(_peer):
    pass


def half_hello(peer):
    whole = framed(HELLO)
    peer.socket.sendall(whole[: len(whole) // 2])


def hello(peer):
    peer.hello()


def opened(peer):
    peer.hello().ask(3, 1, "twice", None, 4, {}, {})


def attached(peer):
    peer.hello().open("twice")
    peer.ask(8, 1)


def half_infer(peer):
    ring = peer.hello().open("twice")
    whole = framed(ring.infer(1))
    peer.socket.sendall(whole[: len(whole) // 2])


def queued(peer):
    """One running, others waiting: not adjacent, so not in one batch."""
    ring = peer.hello().open("slow", slots=8)
    peer.send(*(ring.infer(slot, slot) for slot in (0, 2, 4)))


def unread(peer):
    ring = peer.hello().open("twice")
    peer.send(ring.infer(1))
    select.select([peer.socket], [], [])


def unread_descriptor(peer):
    """A segment is on its way to it."""
    peer.ask(*HELLO[:4], {"segments": ["fd"]})
    peer.send([3, 1, "twice", None, 4, {}, {}])
    select.select([peer.socket], [], [])


def cancelling(peer):
    ring = peer.hello().open("slow")
    peer.send(ring.infer(1), ring.infer(2, 2), [6, 1], [6, 2])


def closing(peer):
    ring = peer.hello().open("slow")
    peer.send(ring.infer(1), ring.infer(2, 2), [7, 3, ring.number])


POINTS = {
    point.__name__: point
    for point in (
        *(connect, half_hello, hello, opened, unread_descriptor, attached),
        *(half_infer, queued, unread, cancelling, closing),
    )
}


def main(path):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are not waited for
    for line in sys.stdin:
        if os.fork() == 0:
            peer = Peer(path)
            POINTS[line.strip()](peer)
            os.write(1, f"{os.getpid()}\n".encode())
            signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
