"""The handshake: a connection before its session, of which nothing but the HELLO is read (spec section 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.refusal import append_error
from broker.stats import Stats
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire import messages
from ringbuf.wire.framing import LENGTH_BYTES, MAX_PAYLOAD_BYTES
from ringbuf.wire.messages import Hello, decode_client

SEGMENT_KINDS = ("path", "fd")
TIMEOUT_NS = 5 * 10**9  # spec section 4


class Handshake:
    """A connection before its session: reads the HELLO, and not a byte more, so that the socket can be handed on
    after it.
    """

    __slots__ = ("_buffer", "_on_hello", "_stats", "connection", "descriptors", "ended", "out")

    has_more = False
    patience_ns: int | None = TIMEOUT_NS

    def __init__(self, stats: Stats, on_hello: Callable[[Handshake, Hello], None]) -> None:
        """`on_hello` is called once, when the HELLO is there; what it raises is the client's answer."""
        self.connection: Any = None
        self.out = bytearray()
        self.descriptors: list[int] = []
        self.ended = False
        self._buffer = b""
        self._stats = stats
        self._on_hello = on_hello

    @property
    def receive_bytes(self) -> int:
        """How much to read next: what is missing of the length, then of the payload."""
        have = len(self._buffer)
        if have < LENGTH_BYTES:
            return LENGTH_BYTES - have
        return LENGTH_BYTES + int.from_bytes(self._buffer[:LENGTH_BYTES], "little") - have

    def receive(self, data: bytes, now_ns: int) -> None:
        """Take bytes of the HELLO."""
        self._buffer += data
        if len(self._buffer) < LENGTH_BYTES:
            return
        length = int.from_bytes(self._buffer[:LENGTH_BYTES], "little")
        if length > MAX_PAYLOAD_BYTES:
            self.fail(
                RingbrokerError(Code.FRAME_TOO_LARGE, f"a frame of {length} bytes; {MAX_PAYLOAD_BYTES} is the most")
            )
        elif self.receive_bytes == 0:
            self._finish()

    def fail(self, error: RingbrokerError) -> None:
        """Refuse the connection."""
        append_error(self.out, self._stats, None, error)
        self.ended = True

    def expire(self) -> None:
        """Refuse a connection whose HELLO did not come in time."""
        self.fail(RingbrokerError(Code.HANDSHAKE_TIMEOUT, "no HELLO came within 5 seconds"))

    def closed(self) -> None:
        """The connection is gone."""

    def _finish(self) -> None:
        try:
            message = decode_client(self._buffer[LENGTH_BYTES:])
            if not isinstance(message, Hello):
                raise RingbrokerError(Code.UNEXPECTED_MESSAGE, "HELLO comes first")
            _check_hello(message)
            self._on_hello(self, message)
        except RingbrokerError as error:
            self.fail(error)


def segment_kind(hello: Hello) -> str:
    """The kind of segment that a client gets; raises `RingbrokerError` NOT_SUPPORTED."""
    asked = hello.options.segments
    for kind in ("path",) if asked is None else asked:
        if kind in SEGMENT_KINDS:
            return kind
    kinds = ", ".join(SEGMENT_KINDS)
    raise RingbrokerError(Code.NOT_SUPPORTED, f"the kinds of segment are {kinds}", "options.segments")


def _check_hello(hello: Hello) -> None:
    if hello.major != messages.PROTOCOL_MAJOR:
        raise RingbrokerError(
            Code.VERSION_UNSUPPORTED, f"this broker speaks major version {messages.PROTOCOL_MAJOR}", "major"
        )
    segment_kind(hello)
