"""What the supervisor, the loader and the workers say to each other: one msgpack message per packet, with descriptors.

    supervisor <-> loader     a generation's models are loaded, its workers forked
    supervisor <-> worker     connections and memory are handed over, the ends of sessions reported

Both ends are ours and of one version, so there is no negotiation; nothing on these channels comes from a client but
what the supervisor has decoded. No packet is a pickle.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec
from msgspec import Struct

from ringbuf.errors import RingbrokerError
from ringbuf.wire.messages import Hello

log = logging.getLogger("broker.control")

_MAX_PACKET_BYTES = 128 * 1024
_MAX_TEXT_CHARS = 4096  # as of an ERROR
_MAX_DESCRIPTORS = 128  # a connection and the segments of all of a session's rings; the kernel's most is 253
_EXHAUSTED = (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)  # of the system: sent when it has some again


class RingRecord(Struct, frozen=True):
    """All that is needed to make a ring of a session again in another worker, around the same memory."""

    number: int
    model: str
    version: str | None
    slots: int
    maxima: dict[str, int]
    size_bytes: int
    fingerprint: bytes
    """Of what RING said about its planes: a ring is the same where this is."""


# --- supervisor to loader ---


class Fork(Struct, tag=True):
    """Fork a worker; comes with its channel and its page of counters."""

    worker: int
    pool: str
    index: int
    workers: int


# --- loader to supervisor; Loading, Ready and Failed also of a worker that loads for itself ---


class Loading(Struct, tag=True):
    """A model's turn has come."""

    model: str


class Loaded(Struct, tag=True):
    """A model is ready; in the order of their counters in a page."""

    model: str
    version: str
    source: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    canary_percent: float | None = None
    """Of a candidate: its share of the requests that name no version."""


class Ready(Struct, tag=True):
    """All models are ready, and workers can be forked."""


class Failed(Struct, tag=True):
    """Of the loader or a worker: it cannot serve, and ends."""

    code: int
    text: str
    path: str | None

    @classmethod
    def of(cls, error: RingbrokerError) -> Failed:
        """Say this, or the beginning of it: a model's own words may be longer than a packet."""
        return cls(error.code, error.text[:_MAX_TEXT_CHARS], error.path)


class Forked(Struct, tag=True):
    """A worker lives."""

    worker: int
    pid: int


class Exited(Struct, tag=True):
    """A worker is gone; `how` is for people."""

    worker: int
    how: str


# --- supervisor to worker ---


class Take(Struct, tag=True):
    """A connection whose HELLO was read; comes with its socket, and then the memory of each of `rings`."""

    session: int
    token: str
    hello: Hello
    is_resumed: bool = False
    rings: tuple[RingRecord, ...] = ()
    lost: int | None = None


class Made(Struct, tag=True):
    """A ring's memory, which comes with it; `path` is None for the kind `fd`."""

    session: int
    ring: int
    path: str | None


class NotMade(Struct, tag=True):
    """No memory for a ring, and why."""

    session: int
    ring: int
    code: int
    text: str


class Retire(Struct, tag=True):
    """Send every client away; what is still connected when `grace_ms` have passed is closed."""

    reason: str
    grace_ms: int


# --- worker to supervisor ---


class Serving(Struct, tag=True):
    """It is warm, and takes connections."""

    pid: int


class Want(Struct, tag=True):
    """A ring needs its memory."""

    session: int
    kind: str
    ring: RingRecord


class Attached(Struct, tag=True):
    """The client has mapped a ring: its name can go, and it can be resumed."""

    session: int
    ring: int


class Freed(Struct, tag=True):
    """A ring is gone."""

    session: int
    ring: int


class Ended(Struct, tag=True):
    """A session's connection is gone."""

    session: int
    is_resumable: bool


Packet: TypeAlias = (
    Fork
    | Loading
    | Loaded
    | Ready
    | Failed
    | Forked
    | Exited
    | Take
    | Made
    | NotMade
    | Retire
    | Serving
    | Want
    | Attached
    | Freed
    | Ended
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Packet)


class Channel:
    """One end; it never blocks. What the other end has no room for waits, and is sent by `flush`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self.is_open = True

    def fileno(self) -> int:
        """What to wait on."""
        return self._sock.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether `flush` has something to do."""
        return bool(self._unsent)

    def send(self, packet: Packet, descriptors: Sequence[int] = ()) -> None:
        """Send a packet, now or later; the descriptors stay the caller's. One that has to wait needs copies of them:
        where there is no room for these, it goes without, which every receiver is ready for.
        """
        self.flush()
        data = _encoder.encode(packet)
        if self._unsent or not self._is_sent(data, descriptors):
            self._unsent.append((data, _copies(descriptors)))

    def flush(self) -> None:
        """Send what waits, as far as there is room. Packets to an end that is gone are dropped."""
        while self._unsent and self._is_sent(*self._unsent[0]):
            _close_all(self._unsent.popleft()[1])

    def _is_sent(self, data: bytes, descriptors: Sequence[int]) -> bool:
        """Try to send; also true where nobody is there any more."""
        try:
            socket.send_fds(self._sock, [data], descriptors)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _EXHAUSTED:
                return False
            self.is_open = False
        return True

    def receive(self) -> Iterator[tuple[Packet, list[int]]]:
        """Everything that is there, each with its descriptors, which are the caller's. `is_open` is False after the
        last, or a broken one. One is received when the one before is done with: what that forks has no descriptors of
        the next.
        """
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    self._sock, _MAX_PACKET_BYTES, _MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self.is_open = False
                return
            try:
                packet = _decoder.decode(data)
            except msgspec.DecodeError:
                log.exception("a bug: a packet that cannot be read; its channel is closed")
                _close_all(descriptors)
                self.is_open = False
                return
            yield packet, descriptors

    def close(self) -> None:
        """Close this end."""
        self.is_open = False
        while self._unsent:
            _close_all(self._unsent.popleft()[1])
        self._sock.close()


def channel_pair() -> tuple[Channel, int]:
    """A channel, and the descriptor of its other end, which is to be handed to a child, and closed here."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(near), far.detach()


def socket_of(descriptor: int) -> socket.socket:
    """The socket that was received as a descriptor."""
    return socket.socket(fileno=descriptor)


def _copies(descriptors: Sequence[int]) -> list[int]:
    """Duplicates of all of them, or of none."""
    copies: list[int] = []
    try:
        for fd in descriptors:
            copies.append(os.dup(fd))  # noqa: PERF401
    except OSError:
        _close_all(copies)
        return []
    return copies


def _close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        with contextlib.suppress(OSError):
            os.close(fd)
