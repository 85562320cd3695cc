"""A model that a client opened: gives leases, and opens its ring anew where the broker was lost (spec section 6)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic_ns
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ringbroker.call import deadline_after
from ringbroker.errors import error_of
from ringbroker.lease import Lease
from ringbroker.planes import Array, Sample
from ringbroker.ring import Ring, open_ring
from ringbuf.errors import Code
from ringbuf.wire.messages import Plane, Signature

if TYPE_CHECKING:
    from ringbroker.client import Client
    from ringbroker.connection import Connection


class Model:
    """A model and a ring of it. Safe to share between threads; made by `Client.open`.

    `slots`, `max_rows`, `version`, `signature` and the planes are those of the ring that is open now: after the broker
    was lost, the next call opens another one, of the same model, slots and maxima.
    """

    def __init__(
        self, client: Client, name: str, version: str | None, slots: int, maxima: Mapping[str, int], deadline_ns: int
    ) -> None:
        """Open the ring; see `Client.open`."""
        self.name = name
        self._client = client
        self._version = version
        self._slots = slots
        self._maxima = dict(maxima)
        self._is_closed = False
        self._opening = threading.Lock()
        self._ring = self._open(client._connect(deadline_ns), deadline_ns)

    @property
    def version(self) -> str:
        """The version that the ring was opened with; a `Result` says which one answered."""
        return self._ring.info.version

    @property
    def slots(self) -> int:
        """How many rows can be leased at a time."""
        return self._ring.info.slots

    @property
    def max_rows(self) -> int:
        """The most rows of one lease."""
        return self._ring.info.max_rows

    @property
    def signature(self) -> Signature:
        """The model's `inputs` and `outputs`, and `dims`: the maximum of each dynamic dim, None where it has none.

        An input or output has a `name`, a `dtype`, a `shape` with dynamic dims by name, and a `batch_axis` or None.
        """
        return self._ring.signature

    @property
    def inputs(self) -> dict[str, Plane]:
        """The input planes by name, in the signature's order: `dtype`, and `sample`, the shape of one row at the ring's
        maxima.
        """
        return {plane.name: plane for plane in self._ring.planes.inputs}

    @property
    def outputs(self) -> dict[str, Plane]:
        """The output planes, likewise."""
        return {plane.name: plane for plane in self._ring.planes.outputs}

    def acquire(self, rows: int = 1, timeout: float | None = None) -> Lease:
        """Lease `rows` adjacent rows; no message is sent. Waits in order of arrival, at most `timeout` seconds.

        A `timeout` of 0 only tries. Where the broker was lost, connects and opens the ring again, in the same time
        (with no `timeout`: in the client's).

        Raises TooManyRows (at once), AcquireTimeout, ClientClosed, BrokerLost, and where the ring is opened anew what
        `Client.open` raises.
        """
        deadline_ns = None if timeout is None else deadline_after(timeout)
        ring = self._live_ring(deadline_ns)
        return Lease(ring, ring.take(rows, deadline_ns))

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
        samples = _Samples(ring.planes.inputs, arrays, named)
        with Lease(ring, ring.take(samples.rows, deadline_ns)) as lease:
            inputs = lease._shape_samples(samples.short)
            for name, rows in samples.rows_by_name.items():
                _fill(inputs[name], rows, name)
            left_s = None if deadline_ns is None else (deadline_ns - monotonic_ns()) / 1e9
            result = lease.infer(left_s)
            outputs = {plane.name: _from_rows(result[plane.name], plane.batch_axis) for plane in ring.planes.outputs}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def close(self) -> None:
        """Close the ring, at once: nothing waits for the broker, which frees its side when it reads of it. Idempotent.

        Whoever waits for a lease gets ClientClosed, and a request not yet begun too.
        """
        self._is_closed = True
        self._client._forget(self)
        self._ring.close()

    def _mark_closed(self) -> None:
        """The client was closed, and the connection with it."""
        self._is_closed = True

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _live_ring(self, deadline_ns: int | None) -> Ring:
        """Return a ring on a live connection, opening one if need be."""
        ring = self._ring
        if self._is_closed:
            raise error_of(Code.CLIENT_CLOSED, "the model was closed")
        if ring.connection.error is None:
            return ring
        if deadline_ns is None:
            deadline_ns = deadline_after(self._client.timeout)
        connection = self._client._connect(deadline_ns)
        with self._while_nobody_opens(deadline_ns):
            if not self._is_closed and self._ring.connection is not connection:
                self._ring = self._open(connection, deadline_ns)
            if self._is_closed:  # perhaps while we opened it
                self._ring.close()
                raise error_of(Code.CLIENT_CLOSED, "the model was closed")
            return self._ring

    @contextmanager
    def _while_nobody_opens(self, deadline_ns: int) -> Iterator[None]:
        """Hold the lock of opening; raises AcquireTimeout where another thread holds it until `deadline_ns`."""
        if not self._opening.acquire(timeout=max(0.0, (deadline_ns - monotonic_ns()) / 1e9)):
            raise error_of(Code.ACQUIRE_TIMEOUT, "another thread is still opening the ring again")
        try:
            yield
        finally:
            self._opening.release()

    def _open(self, connection: Connection, deadline_ns: int) -> Ring:
        served = self._client._list_models(connection, deadline_ns)
        signature = next(
            (model.signature for model in served if model.name == self.name),
            Signature((), (), {}),  # no such model: OPEN will say so
        )
        return open_ring(connection, self.name, self._version, self._slots, self._maxima, signature, deadline_ns)


class _Samples:
    """What `Model.__call__` was given, as rows: by name `[rows, *sample]`, or `[1, *sample]` for all rows.

    `short` has the shapes of one row that are not the plane's full ones.
    """

    def __init__(
        self, planes: tuple[Plane, ...], arrays: tuple[npt.ArrayLike, ...], named: dict[str, npt.ArrayLike]
    ) -> None:
        names = [plane.name for plane in planes]
        given = dict(zip(names, arrays, strict=False)) | named
        if len(given) < len(arrays) + len(named) or sorted(given) != sorted(names):
            raise TypeError(
                f"the model's inputs are {names}; got {len(arrays)} by position and {sorted(named)} by name"
            )
        self.rows = 1
        self.rows_by_name: dict[str, Array] = {}
        self.short: dict[str, Sample] = {}
        counts: set[int] = set()
        for index, plane in enumerate(planes):
            rows = _to_rows(given[plane.name], plane, index)
            self.rows_by_name[plane.name] = rows
            if rows.shape[1:] != plane.sample:
                self.short[plane.name] = rows.shape[1:]
            if plane.batch_axis is not None:
                counts.add(len(rows))
        if counts:
            self.rows = counts.pop()
        if counts:
            raise error_of(Code.WRONG_DIM, "the inputs have different numbers of rows", "inputs")


def _fill(plane: Array, rows: Array, name: str) -> None:
    """Copy rows into their plane; raises TypeError where numpy does not cast to its dtype."""
    try:
        np.copyto(plane, rows, casting="same_kind")
    except TypeError as error:
        raise TypeError(f"{name!r}: {error}") from error


def _to_rows(given: npt.ArrayLike, plane: Plane, index: int) -> Array:
    """View an array of the signature's shape as rows."""
    array = np.asarray(given)
    rank = len(plane.sample) + (plane.batch_axis is not None)
    if array.ndim != rank:
        text = f"{plane.name!r} has {rank} dims, the batch axis included, not {array.ndim}"
        raise error_of(Code.WRONG_RANK, text, f"inputs[{index}].shape")
    return array[np.newaxis] if plane.batch_axis is None else np.moveaxis(array, plane.batch_axis, 0)


def _from_rows(rows: Array, batch_axis: int | None) -> Array:
    """Copy rows into an array of the signature's shape."""
    return rows[0].copy() if batch_axis is None else np.moveaxis(rows, 0, batch_axis).copy()
