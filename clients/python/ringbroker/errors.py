"""What the client raises: one class for each range of codes, and a few by name (spec section 10).

The tree is in the docstring of `ringbroker`. A code that this version does not know gets the class of its range.
"""
# ruff: noqa: N818 - a lost broker is called so in the spec, in Go and here; the suffix would be the only difference

from __future__ import annotations

from ringbuf.errors import Code, RingbrokerError, name_of
from ringbuf.wire import messages


class Error(RingbrokerError):
    """The base of everything that this package raises on purpose: `code`, `text`, `path`, `is_retryable`.

    `retry_after_ms` is the broker's hint, or None. `needed_bytes` is an OutputTooLarge's, and None elsewhere.
    """


class ProtocolError(Error):
    """1xxx: the broker refused what this client sent, and ended the session."""


class RingError(Error):
    """2xxx: a ring, a lease or a tensor's shape is wrong."""


class TooManyRows(RingError):
    """More rows than a request of this ring may have (`Model.max_rows`)."""


class AttachFailed(RingError):
    """The segment could not be opened or mapped; is the broker in the same /dev/shm?"""


class LeaseReleased(RingError):
    """The lease was used or released after its release."""


class LeaseBusy(RingError):
    """The lease's last request has no final answer yet: its rows are the broker's."""


class ModelError(Error):
    """3xxx: a model, a version or a dynamic dim is not what the broker has."""


class UnknownModel(ModelError):
    """The broker serves no model of that name."""


class UnknownVersion(ModelError):
    """The model has no such version."""


class WrongPool(ModelError):
    """The model belongs to another pool than the connection; it has just been moved there."""


class CapacityError(Error):
    """4xxx: no room, or no time."""


class Timeout(CapacityError, TimeoutError):
    """The call's own timeout passed before its answer came. Catches the two below as well."""


class DeadlineExceeded(Timeout):
    """The broker found the deadline passed before it began to run the request."""


class AcquireTimeout(Timeout):
    """No adjacent free rows became free in time."""


class Cancelled(CapacityError):
    """The request was cancelled, or its ring closed, before it was run."""


class ShmFull(CapacityError):
    """No room for the ring now: /dev/shm, or what all rings together may have, is used up."""


class ExecutionError(Error):
    """5xxx: the model ran and failed."""


class ModelFailed(ExecutionError):
    """The model raised; the text names the type of what it raised."""


class OutputTooLarge(ExecutionError):
    """An output did not fit into its plane; `needed_bytes` is what one row of it needs.

    A ring with a larger maximum for its open dim may take it (`Client.open`, `maxima`).
    """


class ExecutionTimeout(ExecutionError):
    """The model ran for longer than the operator allows, and its worker was ended with the requests that it had."""


class LifecycleError(Error):
    """6xxx: the broker or the connection is not in a state to answer."""


class BrokerLost(LifecycleError, ConnectionError):
    """The connection ended or could not be made. Retryable: the next call connects again."""


class ClientClosed(LifecycleError):
    """The client or the model was closed by its owner."""


class NotSupported(LifecycleError):
    """The protocol reserves this, and the broker does not have it."""


class BadAnswer(LifecycleError):
    """The broker sent what the protocol does not allow; the connection has been closed."""


class ResumeRefused(LifecycleError):
    """The broker no longer has the session. The client connects anew by itself: no call raises this."""


class SignatureChanged(LifecycleError):
    """The lease's model has another signature now, or is gone; a new lease is one of the new model."""


class PeerRefused(LifecycleError):
    """The broker does not serve the user that this process runs as."""


_BY_CODE: dict[int, type[Error]] = {
    Code.TOO_MANY_ROWS: TooManyRows,
    Code.ATTACH_FAILED: AttachFailed,
    Code.LEASE_RELEASED: LeaseReleased,
    Code.LEASE_BUSY: LeaseBusy,
    Code.UNKNOWN_MODEL: UnknownModel,
    Code.UNKNOWN_VERSION: UnknownVersion,
    Code.WRONG_POOL: WrongPool,
    Code.DEADLINE_EXCEEDED: DeadlineExceeded,
    Code.CANCELLED: Cancelled,
    Code.SHM_FULL: ShmFull,
    Code.ACQUIRE_TIMEOUT: AcquireTimeout,
    Code.TIMEOUT: Timeout,
    Code.MODEL_FAILED: ModelFailed,
    Code.OUTPUT_TOO_LARGE: OutputTooLarge,
    Code.EXECUTION_TIMEOUT: ExecutionTimeout,
    Code.BROKER_LOST: BrokerLost,
    Code.CLIENT_CLOSED: ClientClosed,
    Code.NOT_SUPPORTED: NotSupported,
    Code.BAD_ANSWER: BadAnswer,
    Code.RESUME_REFUSED: ResumeRefused,
    Code.SIGNATURE_CHANGED: SignatureChanged,
    Code.PEER_REFUSED: PeerRefused,
}

_BY_RANGE: dict[int, type[Error]] = {
    1: ProtocolError,
    2: RingError,
    3: ModelError,
    4: CapacityError,
    5: ExecutionError,
    6: LifecycleError,
}


def error_of(
    code: int,
    text: str,
    path: str | None = None,
    retry_after_ms: int | None = None,
    needed_bytes: int | None = None,
) -> Error:
    """Make the exception of `code`: the class of its name, else of its range, else `Error`."""
    kind = _BY_CODE.get(code) or _BY_RANGE.get(code // 1000, Error)
    return kind(code, text, path, retry_after_ms, needed_bytes)


def told(answer: messages.Error) -> Error:
    """Make the exception of an ERROR."""
    return error_of(answer.code, answer.text, answer.path, answer.retry_after_ms, answer.extra.needed_bytes)


def fresh(error: RingbrokerError) -> Error:
    """Copy `error` for one raise: several threads may be told of one event, and a traceback belongs to one of them."""
    return error_of(error.code, error.text, error.path, error.retry_after_ms, error.needed_bytes)


__all__ = [name for name, value in list(globals().items()) if isinstance(value, type) and issubclass(value, Error)]
__all__ += ["error_of", "fresh", "name_of", "told"]
