"""The memory maker: what it is asked for comes out, and never more at a time than is allowed."""

import errno
import os
import select

import pytest

from broker.control import RingRecord, Want
from broker.memory import MemoryMaker
from ringbuf.errors import Code, RingbrokerError
from ringbuf.segment import Memory

PAGE = 4096


def wish(number, pages):
    return Want(1, "fd", RingRecord(number, "twice", None, 1, {}, pages * PAGE, b""))


class Gate:
    """Makes memory as soon as it is opened; `fails` lets it find no room."""

    def __init__(self):
        self.fails = False
        self._event = os.eventfd(0, os.EFD_SEMAPHORE)

    def open(self, times=1):
        os.eventfd_write(self._event, times)

    def create(self, size_bytes, kind):
        os.eventfd_read(self._event)
        if self.fails:
            raise RingbrokerError(Code.SHM_FULL, os.strerror(errno.ENOSPC))
        return Memory(os.open("/dev/null", os.O_RDONLY), None, size_bytes)

    def close(self):
        os.close(self._event)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.close()


@pytest.fixture
def maker(gate):
    maker = MemoryMaker(gate.create)
    yield maker
    gate.open(100)
    maker.close()


def done(maker, count):
    """The next outcomes: the size, or the error, by the ring's number."""
    found = {}
    while len(found) < count:
        assert select.select([maker.wake], [], [], 60)[0], "nothing came out"
        for each in maker.done():
            found[each.want.ring.number] = each.outcome
            if isinstance(each.outcome, Memory):
                each.outcome.free()
    return found


def test_what_is_being_made_counts(maker, gate):
    for number, pages in ((1, 6), (2, 4), (3, 3), (4, 2)):
        maker.want(wish(number, pages), None, used_bytes=2 * PAGE, limit_bytes=14 * PAGE)
    (refused,) = done(maker, 1).items()
    assert (refused[0], refused[1].code, refused[1].is_retryable) == (3, Code.SHM_FULL, True)
    assert refused[1].text == "no room for a ring of 12288 bytes: 49152 of the 57344 for all rings are used"
    assert maker.making_bytes == 12 * PAGE, "one that was refused takes no room from the next"
    gate.open(3)
    assert {number: memory.size_bytes for number, memory in done(maker, 3).items()} == {
        1: 6 * PAGE,
        2: 4 * PAGE,
        4: 2 * PAGE,
    }
    assert maker.making_bytes == 0


def test_what_cannot_be_made_takes_no_room(maker, gate):
    gate.fails = True
    gate.open()
    maker.want(wish(1, 5), None, 0, 5 * PAGE)
    assert done(maker, 1)[1].code == Code.SHM_FULL
    gate.fails = False
    gate.open()
    maker.want(wish(2, 5), None, 0, 5 * PAGE)
    assert done(maker, 1)[2].size_bytes == 5 * PAGE
