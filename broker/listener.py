"""The listening sockets: their paths, their lock, and the connections that come in until their HELLO is read.

One broker holds a path: it holds a lock on `PATH.lock` for as long as it lives, so a socket that a dead broker left
can be told from a live one and is replaced. The socket's mode is 0600, and a directory made for it 0700. A directory
that was there is refused where somebody else could put another socket in this one's place. A socket that the service
manager made is taken as it is.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
import struct
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO

from broker.admin import SUFFIX
from broker.handshake import Handshake
from broker.loop import Loop
from broker.stats import Stats
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Hello

log = logging.getLogger("broker.listener")

_MAX_PATH_BYTES = 107  # sun_path holds 108 with its terminating zero
_BACKLOG = 1024  # one that is full answers EAGAIN, which some dialers take for final
_FIRST_INHERITED = 3  # SD_LISTEN_FDS_START


def lock(path: str) -> IO[bytes]:
    """Hold the path for this process; raises `RingbrokerError` SOCKET_IN_USE or SOCKET_INVALID.

    The lock lasts as long as the file that is returned. What is wrong with the path, or with that of the admin socket,
    is said here, before any model is loaded.
    """
    for each in (path, path + SUFFIX):
        _is_socket(each)
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_directory(Path(path).parent)
        held = Path(path + ".lock").open("ab")
    except OSError as error:
        raise RingbrokerError(Code.SOCKET_INVALID, f"cannot make it: {error.strerror}", path) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        raise RingbrokerError(Code.SOCKET_IN_USE, "a live broker holds this socket", path) from error
    return held


def listen(path: str) -> socket.socket:
    """Bind `path`, replacing a socket that a dead broker left; call it holding the lock.

    Raises `RingbrokerError` SOCKET_INVALID.
    """
    _remove_socket(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        umask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(umask)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise RingbrokerError(Code.SOCKET_INVALID, f"cannot make it: {error.strerror}", path) from error
    return listener


def listen_loopback(port: int) -> socket.socket:
    """Listen on a TCP port of 127.0.0.1; raises `RingbrokerError` SOCKET_INVALID."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise RingbrokerError(Code.SOCKET_INVALID, f"cannot make it: {error.strerror}", f"127.0.0.1:{port}") from error
    return listener


def inherited(paths: Collection[str]) -> dict[str, socket.socket]:
    """The listening sockets that the service manager made for this process, by their path: see sd_listen_fds(3).

    They are known by where they listen, so their names do not matter. Raises `RingbrokerError` SOCKET_INVALID for one
    that is none of `paths`.
    """
    told = {name: os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if told["LISTEN_PID"] != str(os.getpid()) or not told["LISTEN_FDS"].isdecimal():
        return {}
    by_place = {os.path.realpath(path): path for path in paths}
    found: dict[str, socket.socket] = {}
    for fd in range(_FIRST_INHERITED, _FIRST_INHERITED + int(told["LISTEN_FDS"])):
        sock = _listening(fd)
        place = sock.getsockname()
        if (path := by_place.get(os.path.realpath(place))) is None:
            sock.close()
            text = "the service manager listens there, and not where the broker is told to: say --socket"
            raise RingbrokerError(Code.SOCKET_INVALID, text, place)
        found[path] = sock
    return found


def _listening(fd: int) -> socket.socket:
    """An inherited descriptor as a socket; raises `RingbrokerError` SOCKET_INVALID for another kind."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise RingbrokerError(Code.SOCKET_INVALID, f"it is no socket: {error.strerror}", f"descriptor {fd}") from error
    is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not (is_listening and sock.family == socket.AF_UNIX and sock.type == socket.SOCK_STREAM):
        sock.close()
        raise RingbrokerError(Code.SOCKET_INVALID, "it is no listening Unix stream socket", f"descriptor {fd}")
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


class Listeners:
    """The listening sockets of this process. Those that it made are removed with it; those that it was given stay."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._given: dict[str, socket.socket] = {}
        self._open: dict[str, socket.socket] = {}
        self._made: set[str] = set()

    def inherit(self, paths: Collection[str]) -> None:
        """Take what the service manager made; raises `RingbrokerError` SOCKET_INVALID."""
        self._given = inherited(paths)

    def open(self, path: str) -> socket.socket:
        """The one of `path`, given or made; raises `RingbrokerError` SOCKET_INVALID."""
        if path in self._given:
            self._open[path] = self._given[path]
        else:
            self._open[path] = listen(path)
            self._made.add(path)
        return self._open[path]

    def open_loopback(self, port: int) -> socket.socket:
        """One on a TCP port of 127.0.0.1; raises `RingbrokerError` SOCKET_INVALID."""
        sock = self._open[f"127.0.0.1:{port}"] = listen_loopback(port)
        return sock

    def close(self, path: str) -> None:
        """Take no more connections on `path`, if it is open."""
        if (sock := self._open.pop(path, None)) is not None:
            if path in self._made:
                Path(path).unlink(missing_ok=True)
            self._loop.unwatch(sock.fileno())
            sock.close()

    def close_all(self) -> None:
        """Take no more connections."""
        for path in list(self._open):
            self.close(path)


def _check_directory(directory: Path) -> None:
    """Refuse a directory in which another user could replace the socket; the default one in /tmp has to be ours."""
    is_default = directory.absolute() == Path(f"/tmp/ringbroker-{os.geteuid()}")
    status = directory.lstat() if is_default else directory.stat()  # ours by a link is not ours
    owners = {os.geteuid()} if is_default else {os.geteuid(), 0}
    if status.st_uid not in owners or (is_default and not stat.S_ISDIR(status.st_mode)):
        text = f"the socket's directory is a link, or user {status.st_uid}'s, who could replace the socket"
        raise RingbrokerError(Code.SOCKET_INVALID, text, str(directory))
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
        text = "other users may write in the socket's directory and could replace it: chmod go-w, or set the sticky bit"
        raise RingbrokerError(Code.SOCKET_INVALID, text, str(directory))


def _is_socket(path: str) -> bool:
    """Whether a socket is there; raises `RingbrokerError` SOCKET_INVALID where none can be made."""
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise RingbrokerError(Code.SOCKET_INVALID, f"a socket's path has at most {_MAX_PATH_BYTES} bytes", path)
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RingbrokerError(Code.SOCKET_INVALID, f"cannot make it: {error.strerror}", path) from error
    if not stat.S_ISSOCK(mode):
        raise RingbrokerError(Code.SOCKET_INVALID, "it exists and is not a socket", path)
    return True


def _remove_socket(path: str) -> None:
    if _is_socket(path):
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as error:
            raise RingbrokerError(Code.SOCKET_INVALID, f"cannot replace it: {error.strerror}", path) from error


class Acceptor:
    """Accepts connections, reads their HELLO, and hands them on."""

    def __init__(
        self,
        listener: socket.socket,
        loop: Loop,
        stats: Stats,
        why_full: Callable[[], str | None],
        on_hello: Callable[[Handshake, Hello], None],
    ) -> None:
        """`why_full` says why no connection can be taken, None where one can; `on_hello` raises `RingbrokerError` for
        a HELLO that it refuses.
        """
        self._loop = loop
        self._stats = stats
        self._why_full = why_full
        self._on_hello = on_hello
        loop.accept(listener, self._take)

    @property
    def waiting(self) -> int:
        """How many connections have not said HELLO yet."""
        return sum(isinstance(connection.peer, Handshake) for connection in self._loop.connections.values())

    def _take(self, sock: socket.socket) -> None:
        why_full = self._why_full()
        handshake = Handshake(self._stats, self._on_hello)
        connection = self._loop.add(sock, handshake)
        if error := _refuse_peer(sock):
            handshake.fail(error)
        elif why_full is not None:
            handshake.fail(RingbrokerError(Code.TOO_MANY_CONNECTIONS, why_full, retry_after_ms=1000))
        self._loop.flush(connection)


def _refuse_peer(sock: socket.socket) -> RingbrokerError | None:
    """Why the process at the other end is not served, by its user at the time when it connected; None where it is."""
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if uid in (0, os.geteuid()):
        return None
    return RingbrokerError(Code.PEER_REFUSED, f"this broker does not serve user {uid}")
