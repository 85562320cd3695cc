"""A model that a client opened: leases of its rings, and another ring where one has ended (spec sections 6, 9)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic_ns
from types import TracebackType
from typing import TYPE_CHECKING

import numpy.typing as npt

from ringbroker.arguments import whole
from ringbroker.call import Call, deadline_after
from ringbroker.errors import Error, error_of
from ringbroker.facts import Facts, OpenRequest
from ringbroker.lease import Lease
from ringbroker.link import Link, RingOf, RingsOf
from ringbroker.planes import Array
from ringbroker.rings import Grant, Rings
from ringbroker.samples import Samples, fill, from_rows
from ringbuf.errors import Code

if TYPE_CHECKING:
    from ringbroker.client import Client

WATCH_NS = 2 * 10**7  # as often, where it waits for rows of several connections: 20 us of each 20 ms
LOOK_NS = 10**9  # how often an acquire reads what the broker said to a client that does not wait for anything


class Model(Facts):
    """A model, and a ring of it on each of the client's connections to its pool. Safe to share between threads; made
    by `Client.open`.

    `version`, `signature` and the planes are those of the rings that are open now: where the broker lost a ring, or
    its model has another signature now, the next call opens another one, of the same model, slots and maxima.
    """

    def __init__(self, client: Client, request: OpenRequest, deadline_ns: int) -> None:
        """Open the rings; see `Client.open`."""
        self.name = request.model
        self._client = client
        self._request = request
        self._is_closed = False
        self._opening = threading.Lock()
        self._looked_ns = 0
        self._rings: RingsOf = Rings(_wake)
        try:
            for index in range(client._settings.connections):
                self._open(index, deadline_ns)
        except BaseException:
            self.close()
            raise

    def acquire(self, rows: int = 1, timeout: float | None = None) -> Lease:
        """Lease `rows` adjacent rows of the ring that has the fewest taken; no message is sent. Waits in order of
        arrival, at most `timeout` seconds.

        A `timeout` of 0 only tries. Where the connection was lost, makes it again in the same time (with no `timeout`:
        in the client's), and where the ring has ended, opens another one.

        Raises TooManyRows and TypeError (at once), AcquireTimeout, ClientClosed, Timeout and BrokerLost for want of a
        broker, and where a ring is opened anew what `Client.open` raises.
        """
        rows = rows if type(rows) is int else whole("rows", rows)
        deadline_ns = None if timeout is None else deadline_after(timeout)
        while True:
            ring = self._live_ring(deadline_ns)
            taken = self._rings.take(ring, rows, Call)
            if isinstance(taken, Call):
                taken = self._wait(taken, ring.link, rows, deadline_ns)
            if taken is not None:
                ring, slot = taken
                prepared = ring.rows(slot, rows)
                if prepared is not None:
                    return Lease(ring, prepared, self._request.may_repost(ring.info))

    def __call__(
        self, *arrays: npt.ArrayLike, timeout: float | None = None, **named: npt.ArrayLike
    ) -> Array | dict[str, Array]:
        """Copy arrays in, infer, copy the outputs out: the convenient way, at the price of the copies.

        Inputs come in the signature's order or by name, each in the signature's shape: the batch axis counts the rows,
        so one sample of `[batch, 8, 8]` is `[1, 8, 8]`. Any number of rows up to `max_rows`; dynamic dims of any size
        up to the ring's maximum. An input without a batch axis is the same for every row. Values are cast where numpy
        calls it `same_kind` (float64 to float32, but no float to int).

        Returns the outputs as arrays of their own, in the signature's shape: the array itself for a model with one
        output, else a dict by name. `timeout`, in seconds, bounds the waiting for rows and the request together.

        Raises TypeError for missing, unknown or uncastable inputs, RingError (WRONG_RANK, WRONG_DIM) for shapes, and
        what `acquire` and `Lease.infer` raise.
        """
        deadline_ns = None if timeout is None else deadline_after(timeout)
        ring = self._live_ring(deadline_ns)
        samples = Samples(ring.planes.inputs, arrays, named)
        left_s = None if deadline_ns is None else (deadline_ns - monotonic_ns()) / 1e9
        with self.acquire(samples.rows, left_s) as lease:
            if lease.signature != ring.signature:
                raise error_of(Code.SIGNATURE_CHANGED, "the model was reloaded with another signature; call again")
            inputs = lease._shape_samples(samples.short)
            for name, rows in samples.rows_by_name.items():
                fill(inputs[name], rows, name)
            left_s = None if deadline_ns is None else (deadline_ns - monotonic_ns()) / 1e9
            result = lease.infer(left_s)
            outputs = {plane.name: from_rows(result[plane.name], plane.batch_axis) for plane in ring.planes.outputs}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def close(self) -> None:
        """Close the rings, at once: nothing waits for the broker, which frees its side when it reads of it. Idempotent.

        Whoever waits for a lease gets ClientClosed, and a request not yet begun too.
        """
        self._is_closed = True
        for ring in self._rings.all:
            ring.link.close_ring(ring, _closed())

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _live_ring(self, deadline_ns: int | None) -> RingOf:
        """The ring with the fewest rows taken, connected and open."""
        if self._is_closed:
            raise _closed()
        now = monotonic_ns()
        if now - self._looked_ns > LOOK_NS:
            self._looked_ns = now
            self._look()
        ring = self._rings.best()
        if ring.ended is None and ring.link.connection.protocol.is_taking:
            return ring
        return self._recover(ring, ring.link.patience(deadline_ns))

    def _recover(self, ring: RingOf, deadline_ns: int) -> RingOf:
        """Connect again, and open another ring where this one does not survive it."""
        try:
            ring.link.connect(deadline_ns)
        except Error:
            if ring.ended is None:
                raise
        if ring.ended is None:
            return ring
        with self._while_nobody_opens(deadline_ns):
            index = next((index for index, other in enumerate(self._rings.all) if other.ended is not None), None)
            if index is not None and not self._is_closed:
                self._open(index, deadline_ns)
            if self._is_closed:  # perhaps while we opened it
                self.close()
                raise _closed()
            return self._rings.all[index or 0]

    @contextmanager
    def _while_nobody_opens(self, deadline_ns: int) -> Iterator[None]:
        """Hold the lock of opening; raises AcquireTimeout where another thread holds it until `deadline_ns`."""
        if not self._opening.acquire(timeout=max(0.0, (deadline_ns - monotonic_ns()) / 1e9)):
            raise error_of(Code.ACQUIRE_TIMEOUT, "another thread is still opening the ring again")
        try:
            yield
        finally:
            self._opening.release()

    def _open(self, index: int, deadline_ns: int) -> None:
        """Open a ring on the `index`-th connection to the pool that the model is in now."""
        listing = self._client._links[0].list_models(deadline_ns)
        pool, _ = self._request.find(listing.models)
        link = self._client._link(pool, index, deadline_ns)
        self._rings.put(index, link.open_ring(self._request, listing, self._rings, deadline_ns))

    def _look(self) -> None:
        for ring in self._rings.all:
            ring.link.connection.look()

    def _wait(self, call: Call, link: Link, rows: int, deadline_ns: int | None) -> Grant[Link] | None:
        """Wait in the queue, over as many connections of `link` as it takes; None where a ring has ended.

        A thread sleeps on one connection: what others bring, late answers that free rows, it looks for now and then.
        """
        try:
            while call.answer is None:
                connection = call.watched = link.connection
                connection.watch(call, self._watch_until(deadline_ns))
                if call.answer is None and connection.error is not None:
                    link.connect(link.patience(deadline_ns))
                elif call.answer is None:
                    self._look()
                    if deadline_ns is not None and monotonic_ns() >= deadline_ns and self._rings.leave(call):
                        raise error_of(Code.ACQUIRE_TIMEOUT, f"no {rows} adjacent free rows in time")
        except BaseException:
            self._rings.give_up(call, rows)
            raise
        return call.answer if isinstance(call.answer, tuple) else None

    def _watch_until(self, deadline_ns: int | None) -> int | None:
        if len(self._rings.all) == 1:
            return deadline_ns
        look_ns = monotonic_ns() + WATCH_NS
        return look_ns if deadline_ns is None else min(look_ns, deadline_ns)


def _wake(call: Call, answer: Grant[Link] | Error) -> None:
    call.answer = answer
    while (connection := call.watched) is not None:
        connection.deliver(call, answer)
        if call.watched is connection:  # else it was told where it no longer waits
            return


def _closed() -> Error:
    return error_of(Code.CLIENT_CLOSED, "the model was closed")
