"""Cut a byte stream into payloads (spec section 3): bytes in, payloads out, no I/O.

Any split of the stream gives the same payloads, and the same error after them.
"""

from __future__ import annotations

from struct import Struct

from ringbuf.errors import Code, RingbrokerError

MAX_PAYLOAD_BYTES = 65536
LENGTH = Struct("<I")
LENGTH_BYTES = LENGTH.size

_unpack_length = LENGTH.unpack_from  # 50 ns; slicing and int.from_bytes take 150


class FrameReader:
    """Collects bytes until they are frames.

    `error` is set, and stays, once a length over the limit was seen: the payloads before it have been returned, and
    nothing after it will be.
    """

    __slots__ = ("_rest", "error")

    def __init__(self) -> None:
        self._rest = b""
        self.error: RingbrokerError | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream; return the payloads that they complete, in order."""
        if self._rest:
            data = self._rest + data
        payloads: list[bytes] = []
        start, end = 0, len(data)
        while end - start >= LENGTH_BYTES and self.error is None:
            begin = start + LENGTH_BYTES
            (length,) = _unpack_length(data, start)
            if length > MAX_PAYLOAD_BYTES:
                self.error = RingbrokerError(
                    Code.FRAME_TOO_LARGE, f"a frame of {length} bytes; {MAX_PAYLOAD_BYTES} is the most"
                )
                break
            stop = begin + length
            if stop > end:
                break
            payloads.append(data[begin:stop])
            start = stop
        self._rest = data[start:] if self.error is None else b""
        return payloads
