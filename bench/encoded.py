"""A client that encodes its requests beforehand: what is measured through it is the broker."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack

from ringbuf.segment import Segment, attach
from ringbuf.wire import messages
from ringbuf.wire.messages import NO_INFER_EXTRA, NOTHING, Infer, decode_broker, encode_frame


def hello() -> messages.Hello:
    """The HELLO of a benchmark."""
    return messages.Hello(1, 0, messages.ClientInfo("bench", "0"), messages.HelloOptions())


class EncodedClient:
    """One connection with one ring; its planes are filled by whoever owns it, through `segment`."""

    def __init__(
        self, stack: ExitStack, path: str, model: str, slots: int, maxima: dict[str, int] | None = None
    ) -> None:
        self.sock = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.sock.connect(path)
        self._ask(hello())
        ring = self._ask(messages.Open(1, model, None, slots, maxima or {}, NOTHING))
        assert isinstance(ring, messages.Ring), ring
        self.ring = ring
        self.segment: Segment = attach(ring.segment.path, ring.segment.bytes)
        self.sock.sendall(encode_frame(messages.Attached(ring.ring, 0)))
        self._rest = b""

    def frames(self, slots: Sequence[int]) -> list[bytes]:
        """An INFER of one full row for each of `slots`."""
        planes = [plane for plane in self.ring.planes if plane.direction == "in"]
        return [
            encode_frame(Infer(slot, self.ring.ring, slot, 1, inputs, None, None, None, NO_INFER_EXTRA))
            for slot in slots
            for inputs in [tuple((p.offset + slot * p.stride, (1, *p.sample), p.dtype) for p in planes)]
        ]

    def receive(self) -> int:
        """Read once; return how many answers were completed."""
        data = self.sock.recv(1 << 18)
        if not data:
            raise ConnectionError("the broker is gone")
        count, self._rest = count_frames(data, self._rest)
        return count

    def ask_all(self, frames: bytes, count: int) -> None:
        """Send `count` requests at once, and wait for all their answers."""
        self.sock.sendall(frames)
        while count > 0:
            count -= self.receive()

    def _ask(self, message: messages.Message) -> messages.BrokerMessage:
        self.sock.sendall(encode_frame(message))
        length = int.from_bytes(self.sock.recv(4, socket.MSG_WAITALL), "little")
        return decode_broker(self.sock.recv(length, socket.MSG_WAITALL))


def count_frames(data: bytes, rest: bytes) -> tuple[int, bytes]:
    """Count the whole frames of a stream; return how many, and what is left over."""
    data = rest + data
    count = start = 0
    while start + 4 <= len(data):
        stop = start + 4 + int.from_bytes(data[start : start + 4], "little")
        if stop > len(data):
            break
        count, start = count + 1, stop
    return count, data[start:]
