"""The client: one connection to a broker, made again when it is lost, and what was opened on it (spec section 4)."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import partial
from time import monotonic_ns
from types import TracebackType
from typing import Literal

from ringbroker.call import deadline_after
from ringbroker.connection import Connection
from ringbroker.dial import STARTING, Backoff, dial, unreachable
from ringbroker.errors import BrokerLost, Error, error_of
from ringbroker.model import Model
from ringbuf.address import default_socket_path
from ringbuf.errors import Code
from ringbuf.wire import messages
from ringbuf.wire.messages import Model as ModelInfo

TIMEOUT_S = 10.0  # a broker that loads its models is up in a few seconds; one that is not there is noticed soon enough
MAX_PAGES = 4096  # where a listing is taken for one without end (spec section 5)
AUTO_SPIN_US = 100  # a round trip takes 10 to 50 us beside the model; longer waits are worth a sleep


class Client:
    """A connection to the broker, safe to share between threads; made by `connect`.

    Not across a fork: connect in the child. (Both would read one stream.)
    """

    def __init__(self, path: str, timeout: float, spin_ns: int, name: str, pool: str | None) -> None:
        """Connect; see `connect`."""
        self.path = path
        self.timeout = timeout
        self._spin_ns = spin_ns
        self._name = name
        self._pool = pool
        self._connecting = threading.Lock()
        self._connection: Connection | None = None
        self._models: set[Model] = set()
        self._is_closed = False
        self._connect(deadline_after(timeout))

    def models(self, timeout: float | None = None) -> list[ModelInfo]:
        """List what the broker serves: `name`, `versions`, `pool`, and `signature` (see `Model.signature`).

        Raises Timeout, BrokerLost, ClientClosed, BadAnswer.
        """
        deadline_ns = self._deadline(timeout)
        return self._list_models(self._connect(deadline_ns), deadline_ns)

    def open(
        self,
        model: str,
        slots: int = 0,
        version: str | None = None,
        maxima: Mapping[str, int] | None = None,
        timeout: float | None = None,
    ) -> Model:
        """Open a ring of `slots` rows of a model; 0 leaves their number to the broker.

        `maxima` gives the largest size that each dynamic dim will have, for those without a maximum of the model's
        (see `signature.dims`), and for others where smaller rows will do, those of outputs included.

        Raises UnknownModel, UnknownVersion, other ModelErrors for `maxima`, ShmFull and other CapacityErrors,
        AttachFailed, Timeout, BrokerLost, ClientClosed, BadAnswer.
        """
        opened = Model(self, model, version, slots, maxima or {}, self._deadline(timeout))
        with self._connecting:
            if not self._is_closed:
                self._models.add(opened)
        return opened

    def ping(self, timeout: float | None = None) -> float:
        """Ask for a sign of life; returns the seconds until it came, the batch in progress included.

        Raises Timeout, BrokerLost, ClientClosed, BadAnswer.
        """
        deadline_ns = self._deadline(timeout)
        connection = self._connect(deadline_ns)
        asked_ns = monotonic_ns()
        connection.ask(messages.Ping, messages.Pong, deadline_ns)
        return (monotonic_ns() - asked_ns) / 1e9

    def close(self) -> None:
        """Close the connection, at once; every call in flight raises ClientClosed. Idempotent.

        The broker frees what was held here when it reads of the end.

        Arrays that were handed out stay mapped as long as they live, but nobody answers for what is in them.
        """
        with self._connecting:
            self._is_closed = True
            connection, self._connection = self._connection, None
            models, self._models = self._models, set()
        for model in models:
            model._mark_closed()
        if connection is not None:
            connection.end(error_of(Code.CLIENT_CLOSED, "the client was closed"))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # For Model ------------------------------------------------------------------------------------------------------

    def _connect(self, deadline_ns: int) -> Connection:
        """Return the live connection, or make one, trying until `deadline_ns` while the broker is not there.

        Raises BrokerLost, ClientClosed, or what the broker answers to HELLO.
        """
        connection = self._connection
        if connection is not None and connection.error is None:
            return connection
        if not self._connecting.acquire(timeout=max(0.0, (deadline_ns - monotonic_ns()) / 1e9)):
            raise error_of(Code.BROKER_LOST, "another thread is still connecting")
        try:
            if self._is_closed:
                raise error_of(Code.CLIENT_CLOSED, "the client was closed")
            if self._connection is None or self._connection.error is not None:
                if self._connection is not None:
                    self._connection.close_descriptors()  # where a signal handler interrupted that
                self._connection = self._dial(deadline_ns)
            return self._connection
        finally:
            self._connecting.release()

    def _list_models(self, connection: Connection, deadline_ns: int) -> list[ModelInfo]:
        """All pages of LIST."""
        models: list[ModelInfo] = []
        page = 0
        for _ in range(MAX_PAGES):
            answer = connection.ask(partial(messages.List, page=page), messages.Models, deadline_ns)
            models += answer.models
            if answer.next_page is None:
                return models
            if answer.next_page <= page:
                break
            page = answer.next_page
        raise connection.refuse("the pages of LIST have no end", "next_page")

    def _forget(self, model: Model) -> None:
        """The model was closed by its owner."""
        self._models.discard(model)

    def _deadline(self, timeout: float | None) -> int:
        return deadline_after(self.timeout if timeout is None else timeout)

    def _dial(self, deadline_ns: int) -> Connection:
        backoff = Backoff(deadline_ns)
        while True:
            try:
                connection = Connection(dial(self.path), self._spin_ns)
                connection.greet(self._name, self._pool, deadline_ns)
            except STARTING as error:
                if not backoff.pause():
                    raise unreachable(self.path, error) from error
            except BrokerLost:  # it went away between our connect and its WELCOME: a broker that restarts
                if not backoff.pause():
                    raise
            except Error:  # some of ours are OSErrors too
                raise
            except OSError as error:
                raise unreachable(self.path, error) from error
            else:
                return connection


def connect(
    path: str | os.PathLike[str] | None = None,
    *,
    timeout: float = TIMEOUT_S,
    spin: Literal["auto", "off"] | float = "auto",
    name: str = "ringbroker-python",
    pool: str | None = None,
) -> Client:
    """Connect to the broker on this machine, waiting up to `timeout` seconds for one that is still starting.

    `path`: its socket; by default $RINGBROKER_SOCKET, else $XDG_RUNTIME_DIR/ringbroker/broker.sock, else
    /tmp/ringbroker-UID/broker.sock (spec section 2).
    `timeout`: also the default of every later call but `acquire`, `infer` and the model's call.
    `spin`: how many microseconds a call looks for its answer before it sleeps; "auto" is 100 where this process may
    use more than one CPU, else none.
    `name`: who calls, for the broker's logs. `pool`: the pool of models wanted; any, where left out.

    Raises BrokerLost where no broker answers in time, and what the broker answers to HELLO.
    """
    return Client(os.fspath(path) if path is not None else default_socket_path(), timeout, _spin_ns(spin), name, pool)


def _spin_ns(spin: str | float) -> int:
    if spin == "off":
        return 0
    if spin == "auto":
        return AUTO_SPIN_US * 1000 if len(os.sched_getaffinity(0)) > 1 else 0
    if isinstance(spin, str) or spin < 0:
        raise ValueError(f"spin is 'auto', 'off' or microseconds, not {spin!r}")
    return int(spin * 1000)
