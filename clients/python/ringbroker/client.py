"""The client: its connections to a broker, by pool, and what it asks of the broker as a whole (spec sections 4, 5)."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from time import monotonic_ns
from types import TracebackType
from typing import Literal

from ringbroker.call import deadline_after
from ringbroker.errors import Error, error_of
from ringbroker.facts import OpenRequest
from ringbroker.link import Link
from ringbroker.model import Model
from ringbroker.settings import CLIENT_NAME, TIMEOUT_S, SegmentKind, Settings, socket_path, spin_ns
from ringbuf.errors import Code
from ringbuf.wire import messages
from ringbuf.wire.messages import Model as ModelInfo


class Client:
    """Connections to the broker, safe to share between threads; made by `connect`.

    Not across a fork: connect in the child. (Both would read one stream.)
    """

    def __init__(self, settings: Settings, pool: str | None) -> None:
        """Connect; see `connect`."""
        self._settings = settings
        self._linking = threading.Lock()
        self._is_closed = False
        self._links = [Link(settings, pool, deadline_after(settings.timeout))]

    @property
    def path(self) -> str:
        """The broker's socket."""
        return self._settings.path

    def models(self, timeout: float | None = None) -> list[ModelInfo]:
        """List what all pools serve: `name`, `versions`, `pool`, and `signature` (see `Model.signature`).

        Raises Timeout, BrokerLost, ClientClosed, BadAnswer.
        """
        return self._links[0].list_models(self._deadline(timeout)).models

    def open(
        self,
        model: str,
        slots: int = 0,
        version: str | None = None,
        maxima: Mapping[str, int] | None = None,
        repost: bool | None = None,
        timeout: float | None = None,
    ) -> Model:
        """Open a ring of `slots` rows of a model on each connection; 0 leaves their number to the broker.

        A model of another pool than the client's gets connections of its own. `version` is the only one that answers
        then. `maxima` gives the largest size that each dynamic dim will have, for those without a maximum of the
        model's (see `signature.dims`), and for others where smaller rows will do, those of outputs included. `repost`:
        see `connect`; left out, the client's.

        Raises UnknownModel, UnknownVersion, other ModelErrors for `maxima`, ShmFull and other CapacityErrors,
        AttachFailed, Timeout, BrokerLost, ClientClosed, BadAnswer; TypeError and ValueError for arguments that cannot
        be sent.
        """
        reposts = self._settings.repost if repost is None else repost
        request = OpenRequest.of(model, version, slots, maxima, reposts)
        return Model(self, request, self._deadline(timeout))

    def ping(self, timeout: float | None = None) -> float:
        """Ask for a sign of life; returns the seconds until it came, the batch in progress included.

        Raises Timeout, BrokerLost, ClientClosed, BadAnswer.
        """
        deadline_ns = self._deadline(timeout)
        self._links[0].connect(deadline_ns)
        asked_ns = monotonic_ns()
        self._links[0].ask(messages.Ping, messages.Pong, deadline_ns)
        return (monotonic_ns() - asked_ns) / 1e9

    def close(self) -> None:
        """Close the connections, at once; every call in flight raises ClientClosed. Idempotent.

        The broker frees what was held here when it reads of the end.

        Arrays that were handed out stay mapped as long as they live, but nobody answers for what is in them.
        """
        self._is_closed = True
        for link in self._links:
            link.close(_closed())

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # For Model ------------------------------------------------------------------------------------------------------

    def _link(self, pool: str | None, index: int, deadline_ns: int) -> Link:
        """The link number `index` to a pool, made where there is none yet; any pool, where it is None."""
        if not self._linking.acquire(timeout=max(0.0, (deadline_ns - monotonic_ns()) / 1e9)):
            raise error_of(Code.TIMEOUT, "another thread is still connecting")
        try:
            there = [link for link in self._links if pool is None or link.session.pool in (pool, None)]
            if index < len(there):
                return there[index]
            link = Link(self._settings, pool, deadline_ns)
            self._links.append(link)
            if self._is_closed:  # which `close` sets before it looks at the links
                link.close(_closed())
            return link
        finally:
            self._linking.release()

    def _deadline(self, timeout: float | None) -> int:
        return deadline_after(self._settings.timeout if timeout is None else timeout)


def _closed() -> Error:
    return error_of(Code.CLIENT_CLOSED, "the client was closed")


def connect(
    path: str | os.PathLike[str] | None = None,
    *,
    timeout: float = TIMEOUT_S,
    spin: Literal["auto", "off"] | float = "auto",
    name: str = CLIENT_NAME,
    pool: str | None = None,
    segments: SegmentKind = "path",
    conns: int = 1,
    repost: bool = False,
) -> Client:
    """Connect to the broker on this machine, waiting up to `timeout` seconds for one that is still starting.

    `path`: its socket; by default $RINGBROKER_SOCKET, else $XDG_RUNTIME_DIR/ringbroker/broker.sock, else
    /tmp/ringbroker-UID/broker.sock (spec section 2).
    `timeout`: also the default of every later call but `acquire`, `infer` and the model's call.
    `spin`: how many microseconds a call looks for its answer before it sleeps; "auto" is 100 where this process may
    use more than one CPU, else none.
    `name`: who calls, for the broker's logs. `pool`: the pool of models wanted first; any, where left out.
    `segments`: how memory is shared, "path" (a name in /dev/shm) or "fd" (a descriptor over the socket: for a client
    that does not see the broker's /dev/shm).
    `conns`: connections to each pool, for a pool of several workers; each has a ring of its own.
    `repost`: send a request again, at most twice, from the same rows, where its worker was lost before the answer. It
    may run twice then. Never done for a model that is stateful.

    Raises BrokerLost where no broker answers in time, ValueError, and what the broker answers to HELLO.
    """
    return Client(Settings(socket_path(path), timeout, name, segments, conns, repost, spin_ns(spin)), pool)
