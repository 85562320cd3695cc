"""The roster: every session, its rings' memory, and the tokens by which a lost one is taken up again (spec section 9).

A session is served by one worker at a time. When its worker is gone, or has sent it away, its record and the memory of
its attached rings are kept for a while: a connection that shows the token gets them. Nothing here waits or reads a
clock, and nothing looks into a segment.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from broker.control import RingRecord
from ringbuf.errors import Code, RingbrokerError
from ringbuf.segment import Memory
from ringbuf.wire.messages import Hello


@dataclass(slots=True)
class KeptRing:
    """A ring's memory, held for as long as the ring may be resumed."""

    record: RingRecord
    memory: Memory
    is_attached: bool = False


@dataclass(slots=True)
class SessionRecord:
    """One session."""

    number: int
    token: str
    shown_token: str
    """What its client showed last, and is good as well: the worker that was to tell the new one may have died before it
    did."""
    hello: Hello
    pool: str
    worker: Hashable | None = None
    """Who serves it; None while nobody does."""
    rings: dict[int, KeptRing] = field(default_factory=dict)
    lost: int | None = None
    """The code that its lost requests ended in, where that is more than their loss."""
    told: int | None = None
    """What the last WELCOME said of that; whether it was heard is known when its token is shown."""
    forget_ns: int | None = None
    """Until when it waits to be resumed."""


class Roster:
    """All sessions by number, and those that can be resumed by token."""

    def __init__(self, grace_ns: int) -> None:
        self.sessions: dict[int, SessionRecord] = {}
        self.grace_ns = grace_ns
        self._tokens: dict[str, SessionRecord] = {}
        self._count = 0

    @property
    def segment_bytes(self) -> int:
        """What all rings hold."""
        return sum(kept.memory.size_bytes for session in self.sessions.values() for kept in session.rings.values())

    @property
    def served(self) -> int:
        """How many sessions have a connection."""
        return sum(session.worker is not None for session in self.sessions.values())

    def greet(self, hello: Hello, pools: Sequence[str]) -> SessionRecord:
        """The session that a HELLO begins or resumes; raises `RingbrokerError` UNKNOWN_POOL or RESUME_REFUSED."""
        wanted, token = hello.options.pool, hello.options.resume
        if wanted is not None and wanted not in pools:
            raise RingbrokerError(Code.UNKNOWN_POOL, f"the pools are {', '.join(pools)}", "options.pool")
        if token is None:
            return self.begin(hello, wanted or pools[0])
        session = self.find(token)
        if session.pool not in pools:
            raise RingbrokerError(Code.RESUME_REFUSED, f"there is no pool {session.pool!r} any more", "options.resume")
        session.hello = hello
        return session

    def begin(self, hello: Hello, pool: str) -> SessionRecord:
        """A new session, which nobody serves yet."""
        self._count += 1
        session = SessionRecord(self._count, "", "", hello, pool)
        self.sessions[session.number] = session
        return session

    def find(self, token: str) -> SessionRecord:
        """The session that a token resumes, also one that is still served; raises `RingbrokerError` RESUME_REFUSED."""
        session = self._tokens.get(token)
        if session is None:
            text = "no session waits for this token: it was used, or closed, or kept for too long"
            raise RingbrokerError(Code.RESUME_REFUSED, text, "options.resume")
        return session

    def assign(self, session: SessionRecord, worker: Hashable) -> None:
        """Let a worker serve it, under a new token; the one that its client showed stays good until the next time."""
        shown = session.hello.options.resume or ""
        unheard = session.told if shown != session.token else None
        for token in {session.token, session.shown_token} - {shown}:
            self._tokens.pop(token, None)
        session.shown_token, session.token = shown, secrets.token_hex(16)
        self._tokens[session.token] = session
        session.told, session.lost = session.lost or unheard, None
        session.worker, session.forget_ns = worker, None

    def keep(self, number: int, worker: Hashable, record: RingRecord, memory: Memory) -> bool:
        """Keep the memory of a ring that `worker` opened; False, and it is freed, where it no longer serves that."""
        session = self.sessions.get(number)
        if session is None or session.worker is not worker:
            memory.free()
            return False
        session.rings[record.number] = KeptRing(record, memory)
        return True

    def attached(self, number: int, ring: int) -> None:
        """The client has mapped a ring: its name goes."""
        session = self.sessions.get(number)
        if session is not None and ring in session.rings:
            session.rings[ring].is_attached = True
            session.rings[ring].memory.unlink()

    def freed(self, number: int, ring: int) -> None:
        """A ring is gone."""
        session = self.sessions.get(number)
        if session is not None and ring in session.rings:
            session.rings.pop(ring).memory.free()

    def ended(self, number: int, now_ns: int, *, is_resumable: bool, lost: int | None = None) -> None:
        """A session's connection, or its worker, is gone."""
        session = self.sessions.get(number)
        if session is None:
            return
        for ring in [ring for ring, kept in session.rings.items() if not (is_resumable and kept.is_attached)]:
            session.rings.pop(ring).memory.free()
        session.worker, session.lost = None, lost
        session.forget_ns = now_ns + self.grace_ns
        if not is_resumable:
            self._forget(session)

    def dismiss(self, session: SessionRecord) -> RingbrokerError:
        """Forget a session that waits for a pool which is gone; return what its client is told."""
        self._forget(session)
        text = f"there is no pool {session.pool!r} any more"
        if session.token:
            return RingbrokerError(Code.RESUME_REFUSED, text, "options.resume")
        return RingbrokerError(Code.UNKNOWN_POOL, text, "options.pool")

    def expire(self, now_ns: int) -> None:
        """Forget every session that has waited for too long."""
        for session in list(self.sessions.values()):
            if session.forget_ns is not None and session.forget_ns <= now_ns:
                self._forget(session)

    def served_by(self, worker: Hashable) -> Iterator[SessionRecord]:
        """The sessions of one worker."""
        return (session for session in list(self.sessions.values()) if session.worker is worker)

    def clear(self) -> None:
        """Forget everything."""
        for session in list(self.sessions.values()):
            self._forget(session)

    def _forget(self, session: SessionRecord) -> None:
        for kept in session.rings.values():
            kept.memory.free()
        for token in (session.token, session.shown_token):
            self._tokens.pop(token, None)
        del self.sessions[session.number]
