"""No connection, no descriptor, no shared memory left: told by its code, and over as soon as there is room again."""

import asyncio
import itertools
import os
import resource
import shutil
import socket
import subprocess
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import ringbroker
from ringbroker import aio

from broker import admin
from ringbuf.errors import RingbrokerError
from tests.conftest import ROOT, broker_command, running_broker
from tests.faults import leaks
from tests.faults.signals import is_alive, kill, stopped, worker_of
from tests.faults.wire import HELLO, Bystander, Client, Peer, framed, until

SMALL_SHM = ("sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh")
NEW_MOUNTS = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-rm")


def dial(path, timeout):
    ringbroker.connect(path, timeout=timeout).close()


def dial_asyncio(path, timeout):
    async def run():
        async with await aio.connect(path, timeout=timeout):
            pass

    asyncio.run(run())


def test_too_many_connections():
    with running_broker("twice=tests.faults.models:twice", "--max-connections", "3") as broker:
        bystander = Bystander(broker.socket_path)
        with bystander, ExitStack() as stack:
            before = leaks.settled(broker)
            guests = [stack.enter_context(Peer(broker.socket_path).hello()) for _ in range(2)]
            for _ in range(20):
                with Peer(broker.socket_path) as refused:
                    answer = refused.receive()
                    assert answer[2] == 4007  # TOO_MANY_CONNECTIONS
                    assert answer[5] > 0, "it says when to come again"
                    assert refused.is_at_end()
            guests.pop().socket.close()
            until(lambda: broker.status()["open_sessions"] == 2)
            stack.enter_context(Peer(broker.socket_path).hello())
            stack.close()
            leaks.assert_back_to(before, broker)


def test_no_descriptor_left(broker, undisturbed):
    """Connections wait until there is one; an OPEN is refused; neither keeps the broker busy."""
    with Peer(broker.socket_path).hello() as peer, ExitStack() as stack:
        before = leaks.descriptors(broker.pid).total()
        limits = resource.prlimit(broker.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (before, limits[1]))
        try:
            waiting = [stack.enter_context(Peer(broker.socket_path)) for _ in range(5)]
            for other in waiting:
                other.socket.sendall(framed(HELLO))
            until(lambda: "no descriptor left" in broker.log)
            answer = peer.ask(3, 1, "twice", None, 1, {}, {})
            assert (answer[0], answer[2]) == (64, 4003), answer  # SHM_FULL: the one that says to try again later
            with pytest.raises(RingbrokerError):
                admin.ask(broker.socket_path, "status", timeout_s=2)
            undisturbed.wait_for_more(200)
            assert broker.log.count("no descriptor left") < 50, "it is told once a second, not all the time"
        finally:
            resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, limits)
        for other in waiting:
            assert other.receive()[0] == 65
        assert broker.status()["pid"] == broker.pid
        peer.open("twice")


@contextmanager
def free_descriptors(pid, count):
    """Let a process open only so many descriptors more."""
    taken = {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}
    free = (number for number in itertools.count() if number not in taken)
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (next(itertools.islice(free, count, None)), limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("count", range(7))
def test_few_descriptors_are_left_when_a_worker_dies(pair, steady, count):
    """Whatever it is that the supervisor has none for: it lives, and all is as before when there are some again."""
    with Client(pair.socket_path) as client:
        ring = client.peer.open("twice")
        ring.write(0, 21.0)
        assert client.peer.ask(8, 1)[0] == 72
        pid = worker_of(pair, client)
        with free_descriptors(pair.pid, count):
            kill(pid)
            assert client.is_lost()
            until(lambda: "no worker can be forked now" in pair.log if count == 0 else not is_alive(pid))
        assert client.resume()["rings"] == [[ring.number, 0]]
        assert client.peer.ask(*ring.infer(1))[0] == 69
        assert ring.read(0, 1) == (42.0,)


def test_a_reload_that_finds_no_descriptor(pair, steady):
    with free_descriptors(pair.pid, 2):  # of which the one who asks takes one
        assert admin.ask(pair.socket_path, "reload")["code"] == 6103  # LOADER_DIED
    steady.wait_for_more()


@pytest.mark.parametrize("count", range(4))
def test_few_descriptors_are_left_in_a_worker(broker, undisturbed, count):
    """A connection ends before its WELCOME, or a ring is refused; what there was goes on, and what comes later is."""
    with Peer(broker.socket_path).hello() as peer:
        with free_descriptors(broker.worker_pid, count):
            for _ in range(3):
                with Peer(broker.socket_path) as other, suppress(EOFError, ConnectionResetError):
                    assert other.ask(*HELLO)[0] == 65
                    assert count > 0
            answer = peer.ask(3, 1, "twice", None, 1, {}, {})
            assert answer[0] == 67 if count > 1 else (answer[0], answer[2]) == (64, 4003)  # SHM_FULL
        peer.open("twice")


@pytest.mark.parametrize("dial", [dial, dial_asyncio], ids=["blocking", "asyncio"])
def test_the_backlog_is_full(dial):
    """As the supervisor is stopped: who is connected is served, and both clients come again until there is room."""
    with running_broker("twice=tests.faults.models:twice", "--max-connections", "5000") as broker:
        with Bystander(broker.socket_path) as bystander, ExitStack() as stack:
            before = leaks.settled(broker)
            stack.enter_context(stopped(broker.pid))
            waiting = []
            with suppress(BlockingIOError):
                while True:
                    waiting.append(stack.enter_context(socket.socket(socket.AF_UNIX)))
                    waiting[-1].setblocking(False)
                    waiting[-1].connect(broker.socket_path)
            assert len(waiting) > 1000
            with pytest.raises(ringbroker.BrokerLost):
                dial(broker.socket_path, timeout=0.1)
            dialled = []
            thread = threading.Thread(target=lambda: dialled.append(dial(broker.socket_path, timeout=60)))
            thread.start()
            bystander.wait_for_more(200)
            assert dialled == []
            stack.close()
            thread.join(60)
            assert dialled == [None]
            leaks.assert_back_to(before, broker)
        assert broker.stop() == 0


def can_mount():
    probe = [*NEW_MOUNTS, *SMALL_SHM, "true"]
    return (
        shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not can_mount(), reason="no right to mount a small /dev/shm in a namespace of its own")
def test_shm_is_full():
    """1 MiB of /dev/shm, and a model with 512 KiB for a slot: a bystander has a ring in there already."""
    models = ("large=tests.faults.models:large", "twice=tests.faults.models:twice")
    with running_broker(*models, prefix=(*NEW_MOUNTS, *SMALL_SHM)) as broker:
        root = f"/proc/{broker.pid}/root"
        shm = Path(root + "/dev/shm")
        with Bystander(broker.socket_path, root=root), Peer(broker.socket_path, root).hello() as peer:
            before = leaks.settled(broker)
            free_blocks = os.statvfs(shm).f_bfree
            for _ in range(50):
                answer = peer.ask(3, 1, "large", None, 2, {}, {})
                assert (answer[0], answer[2]) == (64, 4003), answer  # SHM_FULL
                assert not list(shm.iterdir()), "what had room was given back"
            ring = peer.open("large", slots=1)
            ring.write(0, 21.0)
            assert peer.ask(*ring.infer(2))[0] == 69
            assert ring.read(0, 1) == (42.0,)
            assert peer.ask(3, 3, "large", None, 1, {}, {})[2] == 4003
            assert peer.ask(7, 4, ring.number)[0] == 71
            ring.memory.close()
            until(lambda: os.statvfs(shm).f_bfree == free_blocks)
            with (shm / "others").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, os.statvfs(shm).f_bfree * os.statvfs(shm).f_bsize)
            assert peer.ask(3, 5, "twice", None, 1, {}, {})[2] == 4003
            with Peer(broker.socket_path) as other:
                other.ask(*HELLO[:4], {"segments": ["fd"]})
                assert other.ask(3, 1, "large", None, 4, {}, {})[0] == 67, "such memory is elsewhere"
            (shm / "others").unlink()
            ring = peer.open("large", slots=1)
            ring.write(0, 4.0)
            assert peer.ask(*ring.infer(6))[0] == 69
            assert peer.ask(7, 7, ring.number)[0] == 71
            ring.memory.close()
            leaks.assert_back_to(before, broker)
            assert os.statvfs(shm).f_bfree == free_blocks


READ_ONLY_SHM = ("sh", "-c", 'mount -t tmpfs -o ro tmpfs /dev/shm && exec "$@"', "sh")


@pytest.mark.skipif(not can_mount(), reason="no right to mount a /dev/shm in a namespace of its own")
def test_shm_is_read_only(tmp_path):
    """A broker that can make no segment says so at its start, and not to its first client."""
    command = broker_command("serve", "--socket", str(tmp_path / "sock"), "twice=tests.faults.models:twice")
    done = subprocess.run(
        [*NEW_MOUNTS, *READ_ONLY_SHM, *command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "broker: error 4010 SHM_UNAVAILABLE" in done.stderr


def test_lists_without_end_do_not_hold_others_up(broker, undisturbed):
    """Eight thousand LISTs and a hundred OPENs in one write: everybody else has a turn in between."""
    with Peer(broker.socket_path).hello() as peer:
        lists = b"".join(framed([2, number, 0]) for number in range(4000))
        opens = b"".join(framed([3, number, "twice", None, 1, {}, {}]) for number in range(100))
        asker = threading.Thread(target=peer.socket.sendall, args=(lists + opens + framed([8, 7]),))
        asker.start()
        kinds = Counter()
        while kinds.total() < 4101:
            kinds[peer.receive()[0]] += 1
        asker.join()
        assert kinds == {66: 4000, 67: 64, 64: 36, 72: 1}  # the ring's limit of a session is 64
        undisturbed.wait_for_more(50)
