"""Mapping the segment of a RING, by its path or its descriptor (spec section 6)."""

from __future__ import annotations

import os
from typing import Any, Protocol

from ringbroker.errors import Error, error_of, fresh
from ringbroker.planes import find_fault
from ringbroker.protocol import Protocol as WireProtocol
from ringbuf import segment
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire import messages


class Connected(Protocol):
    """What is needed of a connection, blocking or asyncio."""

    @property
    def protocol(self) -> WireProtocol[Any]:
        """The connection without its I/O."""

    def send(self, frame: bytes | bytearray) -> bool:
        """Send a frame."""

    def refuse(self, text: str, path: str | None = None) -> Error:
        """End the connection over what the broker sent; returns the BadAnswer to raise."""


def attach_ring(connection: Connected, info: messages.Ring, signature: messages.Signature, kind: str) -> memoryview:
    """Map the segment of a ring of that kind, once RING has been checked; its ATTACHED is left to the caller.

    Raises BadAnswer, or AttachFailed, which the broker has been told then.
    """
    fault = find_fault(info, signature, kind)
    if fault is not None:
        raise connection.refuse(f"RING: {fault[0]}", fault[1])
    try:
        return _map(connection, info).buffer
    except RingbrokerError as error:
        decline(connection, info.ring)
        raise fresh(error) from error


def decline(connection: Connected, ring: int) -> None:
    """Tell the broker that a ring is not wanted, or cannot be mapped."""
    descriptor = connection.protocol.memory.pop(ring, None)
    if descriptor is not None:
        os.close(descriptor)
    connection.send(messages.encode_frame(messages.Attached(ring, Code.ATTACH_FAILED)))


def _map(connection: Connected, info: messages.Ring) -> segment.Segment:
    if info.segment.path is not None:
        return segment.attach(info.segment.path, info.segment.bytes)
    descriptor = connection.protocol.memory.pop(info.ring, None)
    if descriptor is None:
        raise error_of(Code.ATTACH_FAILED, "no descriptor came with the RING", "segment")
    return segment.attach_descriptor(descriptor, info.segment.bytes)
