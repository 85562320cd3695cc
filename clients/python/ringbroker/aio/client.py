"""The asyncio client: its connections to a broker, by pool, as `ringbroker.client` (spec sections 4, 5)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from time import monotonic_ns
from types import TracebackType

from ringbroker.aio.link import Link, held
from ringbroker.aio.model import Model
from ringbroker.call import deadline_after
from ringbroker.errors import error_of
from ringbroker.facts import OpenRequest
from ringbroker.settings import CLIENT_NAME, TIMEOUT_S, SegmentKind, Settings, socket_path
from ringbuf.errors import Code
from ringbuf.wire import messages
from ringbuf.wire.messages import Model as ModelInfo


class Client:
    """Connections to the broker, for the tasks of one event loop; made by `connect`."""

    def __init__(self, settings: Settings, pool: str | None) -> None:
        """A client that is not connected yet; see `connect`."""
        self._settings = settings
        self._linking = asyncio.Lock()
        self._is_closed = False
        self._links = [Link(settings, pool)]

    @property
    def path(self) -> str:
        """The broker's socket."""
        return self._settings.path

    async def models(self, timeout: float | None = None) -> list[ModelInfo]:
        """List what the broker serves, in all pools; see `ringbroker.Client.models`."""
        return (await self._links[0].list_models(self._deadline(timeout))).models

    async def open(
        self,
        model: str,
        slots: int = 0,
        version: str | None = None,
        maxima: Mapping[str, int] | None = None,
        repost: bool | None = None,
        timeout: float | None = None,
    ) -> Model:
        """Open a ring of `slots` rows of a model on each connection; see `ringbroker.Client.open`."""
        reposts = self._settings.repost if repost is None else repost
        opened = Model(self, OpenRequest.of(model, version, slots, maxima, reposts))
        await opened._begin(self._deadline(timeout))
        return opened

    async def ping(self, timeout: float | None = None) -> float:
        """Ask for a sign of life; returns the seconds until it came, the batch in progress included."""
        deadline_ns = self._deadline(timeout)
        await self._links[0].connect(deadline_ns)
        asked_ns = monotonic_ns()
        await self._links[0].ask(messages.Ping, messages.Pong, deadline_ns)
        return (monotonic_ns() - asked_ns) / 1e9

    async def close(self) -> None:
        """Close the connections, at once; every call in flight raises ClientClosed. Idempotent.

        Arrays that were handed out stay mapped as long as they live, but nobody answers for what is in them.
        """
        self._is_closed = True
        for link in self._links:
            link.close(error_of(Code.CLIENT_CLOSED, "the client was closed"))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # For Model ------------------------------------------------------------------------------------------------------

    async def _link(self, pool: str | None, index: int, deadline_ns: int) -> Link:
        """The link number `index` to a pool, made where there is none yet; any pool, where it is None."""
        async with held(self._linking, deadline_ns):
            there = [link for link in self._links if pool is None or link.session.pool in (pool, None)]
            if index < len(there):
                return there[index]
            link = Link(self._settings, pool)
            await link.begin(deadline_ns)
            self._links.append(link)
            if self._is_closed:
                await self.close()
            return link

    def _deadline(self, timeout: float | None) -> int:
        return deadline_after(self._settings.timeout if timeout is None else timeout)


async def connect(
    path: str | os.PathLike[str] | None = None,
    *,
    timeout: float = TIMEOUT_S,
    name: str = CLIENT_NAME,
    pool: str | None = None,
    segments: SegmentKind = "path",
    conns: int = 1,
    repost: bool = False,
) -> Client:
    """Connect to the broker on this machine, waiting up to `timeout` seconds for one that is still starting.

    The arguments and errors are those of `ringbroker.connect`; there is no `spin`, because the event loop sleeps.
    """
    client = Client(Settings(socket_path(path), timeout, name, segments, conns, repost, 0), pool)
    await client._links[0].begin(deadline_after(timeout))
    return client
