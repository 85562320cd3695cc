"""A segment: one shared-memory mapping, which holds one ring (spec section 6).

The broker creates it under a random name with its space reserved, so a full /dev/shm is an error here and never a
SIGBUS later; the client maps it by path; the broker unlinks the name, and the memory lives as long as somebody maps
it.

A mapping is never closed, only dropped: tensors and arrays made from `Segment.buffer` hold it, and the last of them
unmaps it.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import secrets
from pathlib import Path

from ringbuf import layout
from ringbuf.errors import Code, RingbrokerError

SHM_DIR = Path("/dev/shm")
_MAP_FLAGS = mmap.MAP_SHARED | mmap.MAP_POPULATE  # page tables filled now, not on the first request
_NO_ROOM = (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT, errno.EFBIG, None)  # None: posix_ipc's, for EMFILE and ENFILE


class Segment:
    """One mapping. `buffer` aliases the shared memory for as long as anything made from it lives."""

    __slots__ = ("buffer", "path", "size_bytes")

    def __init__(self, path: str, mapping: mmap.mmap) -> None:
        self.path = path
        self.size_bytes = len(mapping)
        self.buffer = memoryview(mapping)

    def unlink(self) -> None:
        """Remove the name; the memory stays while it is mapped. Harmless when the name is gone already."""
        Path(self.path).unlink(missing_ok=True)


class SegmentStore:
    """Creates the segments of one broker socket, and removes what a dead broker on that socket left behind.

    Names are `/dev/shm/ringbroker-HASH-RANDOM`: the hash of the socket's path, then 128 random bits.
    """

    def __init__(self, socket_path: str) -> None:
        digest = hashlib.sha256(os.fsencode(Path(socket_path).absolute())).hexdigest()
        self.prefix = f"ringbroker-{digest[:16]}-"

    def create(self, size_bytes: int) -> Segment:
        """Create, reserve, prefault and map a segment of `size_bytes`, its header written and the rest zero.

        Raises `RingbrokerError` SHM_FULL where /dev/shm has no room, SHM_UNAVAILABLE where it cannot be used at all;
        nothing is left behind then.
        """
        import posix_ipc  # not above: a client only attaches, and needs no such package

        name = self.prefix + secrets.token_hex(16)
        try:
            shared = posix_ipc.SharedMemory("/" + name, posix_ipc.O_CREX, mode=0o600)
        except (OSError, posix_ipc.Error) as error:
            raise _refusal(error, size_bytes) from error
        try:
            os.posix_fallocate(shared.fd, 0, size_bytes)
            mapping = mmap.mmap(shared.fd, size_bytes, flags=_MAP_FLAGS)
        except OSError as error:
            shared.unlink()
            raise _refusal(error, size_bytes) from error
        finally:
            shared.close_fd()
        header = layout.header(os.getpid())
        mapping[: len(header)] = header
        return Segment(str(SHM_DIR / name), mapping)

    def probe(self) -> None:
        """Find out whether segments can be made here; raises as `create` where not."""
        self.create(layout.PAGE_BYTES).unlink()

    def sweep(self) -> int:
        """Unlink every name of this socket; call it holding the socket's lock. Returns how many there were."""
        names = list(SHM_DIR.glob(self.prefix + "*"))
        for name in names:
            name.unlink(missing_ok=True)
        return len(names)


def _refusal(error: Exception, size_bytes: int) -> RingbrokerError:
    """What to raise where a segment could not be made."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return RingbrokerError(Code.SHM_FULL, f"no room for a ring of {size_bytes} bytes: {error}")
    return RingbrokerError(Code.SHM_UNAVAILABLE, f"/dev/shm cannot be used: {error}")


def attach(path: str, size_bytes: int) -> Segment:
    """Map the segment that a RING message names.

    Raises `RingbrokerError` ATTACH_FAILED where it cannot be opened or mapped, is shorter than `size_bytes`, or is no
    segment.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if os.fstat(fd).st_size < size_bytes:
                raise RingbrokerError(Code.ATTACH_FAILED, "the segment is shorter than RING says", "segment.bytes")
            mapping = mmap.mmap(fd, size_bytes, flags=_MAP_FLAGS)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        raise RingbrokerError(Code.ATTACH_FAILED, f"cannot map the segment: {error}", "segment.path") from error
    if mapping[: len(layout.MAGIC)] != layout.MAGIC:
        raise RingbrokerError(Code.ATTACH_FAILED, "the file is not a segment", "segment.path")
    return Segment(path, mapping)
