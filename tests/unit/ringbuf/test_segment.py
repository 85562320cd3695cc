"""Segments in /dev/shm: shared, reserved, private, and gone when nobody maps them."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from ringbuf import segment
from ringbuf.errors import Code, RingbrokerError
from ringbuf.segment import SHM_DIR, Segment, SegmentStore


@pytest.fixture
def store(tmp_path):
    store = SegmentStore(str(tmp_path / "broker.sock"))
    yield store
    store.sweep()


def names_of(store):
    return [path.name for path in SHM_DIR.glob(store.prefix + "*")]


def test_what_one_writes_the_other_sees(store):
    made = store.create(8192)
    ours, theirs = Segment(made.fd, 8192), segment.attach(made.path, 8192)
    made.free()
    ours.buffer[4096:4100] = b"ring"
    assert bytes(theirs.buffer[4096:4100]) == b"ring"
    theirs.buffer[8191] = 7
    assert ours.buffer[8191] == 7
    assert bytes(ours.buffer[:8]) == b"RINGBRKR"
    assert not any(ours.buffer[16:4096])


def test_it_is_private_and_its_space_is_reserved(store):
    told = Path(store.create(1 << 20).path).stat()
    assert stat.S_IMODE(told.st_mode) == 0o600
    assert told.st_size == 1 << 20
    assert told.st_blocks * 512 >= 1 << 20


def test_memory_lives_on_without_its_name(store):
    made = store.create(8192)
    ours, theirs = Segment(made.fd, 8192), segment.attach(made.path, 8192)
    made.unlink()
    made.free()
    assert names_of(store) == []
    view = np.frombuffer(theirs.buffer, np.uint8)
    del theirs
    ours.buffer[5000] = 9
    assert view[5000] == 9


def test_a_segment_without_a_name_cannot_be_cut_short(store):
    made = store.create(8192, "fd")
    assert (made.path, names_of(store)) == (None, [])
    assert os.fstat(made.fd).st_blocks * 512 >= 8192
    for size in (0, 16384):
        with pytest.raises(PermissionError):
            os.ftruncate(made.fd, size)
    theirs = segment.attach_descriptor(os.dup(made.fd), 8192)
    made.free()
    assert bytes(theirs.buffer[:8]) == b"RINGBRKR"


def test_sweep_takes_its_own_and_no_others(store, tmp_path):
    other = SegmentStore(str(tmp_path / "other.sock"))
    for _ in range(3):
        store.create(4096)
    kept = other.create(4096)
    assert store.sweep() == 3
    assert store.sweep() == 0
    assert Path(kept.path).exists()
    assert other.sweep() == 1


def test_one_socket_has_one_prefix_however_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert SegmentStore("a.sock").prefix == SegmentStore(str(tmp_path / "a.sock")).prefix


def test_no_room_leaves_nothing(store):
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(RingbrokerError) as caught:
        store.create(1 << 50)
    assert caught.value.code == Code.SHM_FULL
    assert names_of(store) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


@pytest.mark.parametrize("kind", ["missing", "short", "no segment", "link", "empty"])
def test_what_cannot_be_attached(store, tmp_path, kind):
    path, size = tmp_path / "file", 8192
    if kind == "short":
        path, size = Path(store.create(4096).path), 8192
    elif kind == "no segment":
        path.write_bytes(bytes(8192))
    elif kind == "link":
        path.symlink_to(store.create(8192).path)
    elif kind == "empty":
        path.write_bytes(b"")
        size = 0
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(RingbrokerError) as caught:
        segment.attach(str(path), size)
    assert caught.value.code == Code.ATTACH_FAILED
    del caught  # its traceback holds the mapping, and Python's mmap a duplicate of the descriptor
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_attach_creates_nothing(tmp_path):
    with pytest.raises(RingbrokerError):
        segment.attach(str(tmp_path / "none"), 4096)
    assert list(tmp_path.iterdir()) == []
