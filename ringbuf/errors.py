"""Error codes, and the one exception that carries them (spec section 10, spec/errors.json).

    RingbrokerError          code, text, path, retry_after_ms

The code is the contract; the text is for people. Everything here that crosses a process boundary, ends a load, or
reaches a caller of a client is a `RingbrokerError`; the Python client derives its exception tree from it.
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Every error code, by the range that says what it is about; see spec/errors.json for what each means."""

    # 1xxx protocol: the session ends
    FRAME_TOO_LARGE = 1001
    BAD_MSGPACK = 1002
    UNKNOWN_MESSAGE = 1003
    INVALID_FIELD = 1004
    VERSION_UNSUPPORTED = 1005
    UNEXPECTED_MESSAGE = 1006
    DUPLICATE_ID = 1007
    HANDSHAKE_TIMEOUT = 1008
    # 2xxx ring and descriptor
    UNKNOWN_RING = 2001
    RING_NOT_ATTACHED = 2002
    TOO_MANY_ROWS = 2003
    ROWS_OUT_OF_RANGE = 2004
    ROWS_IN_FLIGHT = 2005
    WRONG_TENSOR_COUNT = 2006
    WRONG_DTYPE = 2007
    WRONG_RANK = 2008
    WRONG_DIM = 2009
    WRONG_OFFSET = 2010
    ATTACH_FAILED = 2011
    LEASE_RELEASED = 2012
    LEASE_BUSY = 2013
    UNIFORM_MISMATCH = 2014
    INVALID_BOOL = 2015
    # 3xxx model and signature
    UNKNOWN_MODEL = 3001
    UNKNOWN_VERSION = 3002
    UNKNOWN_DIM = 3003
    MAXIMUM_MISSING = 3004
    MAXIMUM_TOO_LARGE = 3005
    UNKNOWN_POOL = 3006
    WRONG_POOL = 3007
    MODEL_NOT_FOUND = 3101
    MODEL_FORMAT_UNKNOWN = 3102
    MODEL_INVALID = 3103
    FACTORY_FAILED = 3104
    SIGNATURE_INVALID = 3105
    SIGNATURE_MISMATCH = 3106
    INPUT_MODIFIED = 3107
    ZERO_COPY_IMPOSSIBLE = 3108
    PICKLE_REFUSED = 3109
    RUNTIME_MISSING = 3110
    CONFIG_INVALID = 3111
    # 4xxx capacity and deadline
    DEADLINE_EXCEEDED = 4001
    CANCELLED = 4002
    SHM_FULL = 4003
    RING_TOO_LARGE = 4004
    TOO_MANY_SLOTS = 4005
    TOO_MANY_RINGS = 4006
    TOO_MANY_CONNECTIONS = 4007
    ACQUIRE_TIMEOUT = 4008
    TIMEOUT = 4009
    SHM_UNAVAILABLE = 4010
    # 5xxx execution
    MODEL_FAILED = 5001
    OUTPUT_MISMATCH = 5002
    OUTPUT_TOO_LARGE = 5003
    EXECUTION_TIMEOUT = 5004
    # 6xxx lifecycle
    BROKER_LOST = 6001
    CLIENT_CLOSED = 6002
    NOT_SUPPORTED = 6003
    BAD_ANSWER = 6004
    RESUME_REFUSED = 6005
    SIGNATURE_CHANGED = 6006
    PEER_REFUSED = 6007
    SOCKET_IN_USE = 6101
    SOCKET_INVALID = 6102
    LOADER_DIED = 6103


RETRYABLE = frozenset(
    {
        Code.HANDSHAKE_TIMEOUT,
        Code.SHM_FULL,
        Code.TOO_MANY_CONNECTIONS,
        Code.ACQUIRE_TIMEOUT,
        Code.BROKER_LOST,
    }
)


def is_protocol_error(code: int) -> bool:
    """Say whether `code` ends the session (1xxx)."""
    return 1000 <= code < 2000


def name_of(code: int) -> str:
    """Return the name of `code`, or its number for one that this version does not know."""
    try:
        return Code(code).name
    except ValueError:
        return str(code)


class RingbrokerError(Exception):
    """What went wrong, as its stable code; `path` names the offending field where there is one.

    `needed_bytes` comes with OUTPUT_TOO_LARGE: what one row of that output needs.
    """

    def __init__(
        self,
        code: int,
        text: str,
        path: str | None = None,
        retry_after_ms: int | None = None,
        needed_bytes: int | None = None,
    ) -> None:
        super().__init__(code, text, path, retry_after_ms, needed_bytes)
        self.code = code
        self.text = text
        self.path = path
        self.retry_after_ms = retry_after_ms
        self.needed_bytes = needed_bytes

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code in RETRYABLE

    def __str__(self) -> str:
        place = f" (at {self.path})" if self.path else ""
        return f"{name_of(self.code)}: {self.text}{place}"
