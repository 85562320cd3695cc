"""A segment: one shared-memory mapping, which holds one ring (spec section 6).

The broker creates it with its space reserved, so a full /dev/shm is an error here and never a SIGBUS later. One of
kind `path` has a random name in /dev/shm until the client has mapped it; one of kind `fd` has none, and its descriptor
is sent. The memory lives as long as somebody maps it or holds its descriptor.

A mapping is never closed, only dropped: tensors and arrays made from `Segment.buffer` hold it, and the last of them
unmaps it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import secrets
from pathlib import Path
from typing import NamedTuple

from ringbuf import layout
from ringbuf.errors import Code, RingbrokerError

SHM_DIR = Path("/dev/shm")
_MAP_FLAGS = mmap.MAP_SHARED | mmap.MAP_POPULATE  # page tables filled now, not on the first request
_ZEROS = bytes(2**20)
_NO_ROOM = (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT, errno.EFBIG, None)  # None: posix_ipc's, for EMFILE and ENFILE


class Segment:
    """One mapping. `buffer` aliases the shared memory for as long as anything made from it lives."""

    __slots__ = ("buffer", "size_bytes")

    def __init__(self, fd: int, size_bytes: int) -> None:
        """Map `size_bytes` of what `fd` holds, which may be closed afterwards; raises OSError or ValueError."""
        mapping = mmap.mmap(fd, size_bytes, flags=_MAP_FLAGS)
        self.size_bytes = size_bytes
        self.buffer = memoryview(mapping)


class Memory(NamedTuple):
    """The memory of a segment that nobody has mapped yet: whoever holds it closes `fd`, and unlinks `path`."""

    fd: int
    path: str | None
    size_bytes: int

    def unlink(self) -> None:
        """Remove the name, if it has one; harmless when it is gone already."""
        if self.path is not None:
            Path(self.path).unlink(missing_ok=True)

    def free(self) -> None:
        """Let go of it; what is mapped stays mapped."""
        self.unlink()
        os.close(self.fd)


class SegmentStore:
    """Creates the segments of one broker socket, and removes what a dead broker on that socket left behind.

    Names are `/dev/shm/ringbroker-HASH-RANDOM`: the hash of the socket's path, then 128 random bits.
    """

    def __init__(self, socket_path: str) -> None:
        digest = hashlib.sha256(os.fsencode(Path(socket_path).absolute())).hexdigest()
        self.prefix = f"ringbroker-{digest[:16]}-"

    def create(self, size_bytes: int, kind: str = "path") -> Memory:
        """Create and reserve a segment of `size_bytes`, its header written and the rest zero, every page of it there.

        That takes 0.3 ms per MiB, without the GIL. Raises `RingbrokerError` SHM_FULL where there is no room,
        SHM_UNAVAILABLE where /dev/shm cannot be used at all; nothing is left behind then.
        """
        try:
            fd, path = self._named() if kind == "path" else _nameless()
        except OSError as error:
            raise _refusal(error, size_bytes) from error
        memory = Memory(fd, path, size_bytes)
        try:
            os.posix_fallocate(memory.fd, 0, size_bytes)
            for start in range(0, size_bytes, len(_ZEROS)):  # or the pages are cleared when they are first mapped
                os.pwrite(memory.fd, _ZEROS[: size_bytes - start], start)
            os.pwrite(memory.fd, layout.header(os.getpid()), 0)
            if kind != "path":
                fcntl.fcntl(memory.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        except OSError as error:
            memory.free()
            raise _refusal(error, size_bytes) from error
        return memory

    def _named(self) -> tuple[int, str]:
        import posix_ipc  # not above: a client only attaches, and needs no such package

        name = self.prefix + secrets.token_hex(16)
        try:
            fd = posix_ipc.SharedMemory("/" + name, posix_ipc.O_CREX, mode=0o600).fd
        except posix_ipc.Error as error:
            raise OSError(errno.EACCES, str(error)) from error
        return fd, str(SHM_DIR / name)

    def probe(self) -> None:
        """Find out whether segments can be made here; raises as `create` where not."""
        self.create(layout.PAGE_BYTES).free()

    def sweep(self) -> int:
        """Unlink every name of this socket; call it holding the socket's lock. Returns how many there were."""
        names = list(SHM_DIR.glob(self.prefix + "*"))
        for name in names:
            name.unlink(missing_ok=True)
        return len(names)


def _nameless() -> tuple[int, None]:
    return os.memfd_create("ringbroker", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), None


def _refusal(error: OSError, size_bytes: int) -> RingbrokerError:
    """What to raise where a segment could not be made."""
    if error.errno in _NO_ROOM:
        return RingbrokerError(Code.SHM_FULL, f"no room for a ring of {size_bytes} bytes: {error}")
    return RingbrokerError(Code.SHM_UNAVAILABLE, f"/dev/shm cannot be used: {error}")


def attach(path: str, size_bytes: int) -> Segment:
    """Map the segment that a RING message names; raises `RingbrokerError` ATTACH_FAILED."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (OSError, ValueError) as error:
        raise RingbrokerError(Code.ATTACH_FAILED, f"cannot open the segment: {error}", "segment.path") from error
    return attach_descriptor(fd, size_bytes)


def attach_descriptor(fd: int, size_bytes: int) -> Segment:
    """Map the segment behind a descriptor, and close that.

    Raises `RingbrokerError` ATTACH_FAILED where it cannot be mapped, is shorter than `size_bytes`, or is no segment.
    """
    try:
        if os.fstat(fd).st_size < size_bytes:
            raise RingbrokerError(Code.ATTACH_FAILED, "the segment is shorter than RING says", "segment.bytes")
        segment = Segment(fd, size_bytes)
    except (OSError, ValueError) as error:
        raise RingbrokerError(Code.ATTACH_FAILED, f"cannot map the segment: {error}", "segment") from error
    finally:
        os.close(fd)
    if segment.buffer[: len(layout.MAGIC)] != layout.MAGIC:
        raise RingbrokerError(Code.ATTACH_FAILED, "the file is not a segment", "segment")
    return segment
