"""A model that an asyncio client opened: leases of its rings, as `ringbroker.model` (spec sections 6, 9)."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from time import monotonic_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ringbroker.aio.connection import Call
from ringbroker.aio.lease import Lease
from ringbroker.aio.link import Link, RingOf, RingsOf, held
from ringbroker.arguments import whole
from ringbroker.call import deadline_after
from ringbroker.errors import Error, error_of
from ringbroker.facts import Facts, OpenRequest
from ringbroker.planes import Array
from ringbroker.rings import Grant, Rings
from ringbroker.samples import Samples, fill, from_rows
from ringbuf.errors import Code

if TYPE_CHECKING:
    from ringbroker.aio.client import Client


class Acquiring:
    """What `Model.acquire` returns: `await` it for a lease, or enter it with `async with`."""

    def __init__(self, model: Model, rows: int, timeout: float | None) -> None:
        self._model = model
        self._rows = rows
        self._timeout = timeout
        self._lease: Lease

    def __await__(self) -> Generator[Any, None, Lease]:
        return self._model._lease(self._rows, self._timeout).__await__()

    async def __aenter__(self) -> Lease:
        self._lease = await self
        return self._lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._lease.__aexit__(kind, error, traceback)


class Model(Facts):
    """A model, and a ring of it on each of the client's connections to its pool. For the tasks of one event loop; made
    by `Client.open`.

    `version`, `signature` and the planes are those of the rings that are open now: where the broker lost a ring, or
    its model has another signature now, the next call opens another one, of the same model, slots and maxima.
    """

    def __init__(self, client: Client, request: OpenRequest) -> None:
        """A model without rings yet; see `Client.open`."""
        self.name = request.model
        self._client = client
        self._request = request
        self._is_closed = False
        self._opening = asyncio.Lock()
        self._rings: RingsOf = Rings(Call.deliver)

    def acquire(self, rows: int = 1, timeout: float | None = None) -> Acquiring:
        """Lease `rows` adjacent rows of the ring that has the fewest taken: `async with model.acquire() as lease`, or
        `lease = await model.acquire()`. No message is sent. Waits in order of arrival, at most `timeout` seconds.

        See `ringbroker.Model.acquire` for the rest, and for what it raises.
        """
        return Acquiring(self, rows, timeout)

    async def __call__(
        self, *arrays: npt.ArrayLike, timeout: float | None = None, **named: npt.ArrayLike
    ) -> Array | dict[str, Array]:
        """Copy arrays in, infer, copy the outputs out; arguments, result and errors are those of `ringbroker.Model`."""
        deadline_ns = None if timeout is None else deadline_after(timeout)
        ring = await self._live_ring(deadline_ns)
        samples = Samples(ring.planes.inputs, arrays, named)
        async with self.acquire(samples.rows, _left_s(deadline_ns)) as lease:
            if lease.signature != ring.signature:
                raise error_of(Code.SIGNATURE_CHANGED, "the model was reloaded with another signature; call again")
            inputs = lease._shape_samples(samples.short)
            for name, rows in samples.rows_by_name.items():
                fill(inputs[name], rows, name)
            result = await lease.infer(_left_s(deadline_ns))
            outputs = {plane.name: from_rows(result[plane.name], plane.batch_axis) for plane in ring.planes.outputs}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    async def close(self) -> None:
        """Close the rings, at once: nothing waits for the broker, which frees its side when it reads of it. Idempotent.

        Whoever waits for a lease gets ClientClosed, and a request not yet begun too.
        """
        self._is_closed = True
        for ring in self._rings.all:
            ring.link.close_ring(ring, _closed())

    async def __aenter__(self) -> Model:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _begin(self, deadline_ns: int) -> None:
        """Open the rings."""
        try:
            for index in range(self._client._settings.connections):
                await self._open(index, deadline_ns)
        except BaseException:
            await self.close()
            raise

    async def _lease(self, rows: int, timeout: float | None) -> Lease:
        rows = rows if type(rows) is int else whole("rows", rows)
        deadline_ns = None if timeout is None else deadline_after(timeout)
        while True:
            taken = self._rings.take(await self._live_ring(deadline_ns), rows, Call)
            if isinstance(taken, Call):
                taken = await self._wait(taken, rows, deadline_ns)
            if taken is not None:
                ring, slot = taken
                prepared = ring.rows(slot, rows)
                if prepared is not None:
                    return Lease(ring, prepared, self._request.may_repost(ring.info))

    async def _live_ring(self, deadline_ns: int | None) -> RingOf:
        """The ring with the fewest rows taken, connected and open."""
        if self._is_closed:
            raise _closed()
        ring = self._rings.best()
        if ring.ended is None and ring.link.connection.protocol.is_taking:
            return ring
        return await self._recover(ring, ring.link.patience(deadline_ns))

    async def _recover(self, ring: RingOf, deadline_ns: int) -> RingOf:
        """Connect again, and open another ring where this one does not survive it."""
        try:
            await ring.link.connect(deadline_ns)
        except Error:
            if ring.ended is None:
                raise
        if ring.ended is None:
            return ring
        async with held(self._opening, deadline_ns):
            index = next((index for index, other in enumerate(self._rings.all) if other.ended is not None), None)
            if index is not None and not self._is_closed:
                await self._open(index, deadline_ns)
            if self._is_closed:  # perhaps while we opened it
                await self.close()
                raise _closed()
            return self._rings.all[index or 0]

    async def _open(self, index: int, deadline_ns: int) -> None:
        """Open a ring on the `index`-th connection to the pool that the model is in now."""
        listing = await self._client._links[0].list_models(deadline_ns)
        pool, _ = self._request.find(listing.models)
        link = await self._client._link(pool, index, deadline_ns)
        self._rings.put(index, await link.open_ring(self._request, listing, self._rings, deadline_ns))

    async def _wait(self, call: Call, rows: int, deadline_ns: int | None) -> Grant[Link] | None:
        """Wait in the queue; None where a ring has ended."""
        try:
            await call.wait(deadline_ns)
        except BaseException:
            self._rings.give_up(call, rows)
            raise
        if call.answer is None and self._rings.leave(call):
            raise error_of(Code.ACQUIRE_TIMEOUT, f"no {rows} adjacent free rows in time")
        return call.answer if isinstance(call.answer, tuple) else None


def _left_s(deadline_ns: int | None) -> float | None:
    return None if deadline_ns is None else (deadline_ns - monotonic_ns()) / 1e9


def _closed() -> Error:
    return error_of(Code.CLIENT_CLOSED, "the model was closed")
