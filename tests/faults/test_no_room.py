"""No connection, no descriptor, no shared memory left: told by its code, and over as soon as there is room again."""

import os
import resource
import shutil
import subprocess
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker import admin
from ringbuf.errors import RingbrokerError
from tests.conftest import ROOT, broker_command, running_broker
from tests.faults import leaks
from tests.faults.wire import HELLO, Bystander, Peer, framed, until

SMALL_SHM = ("sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh")
NEW_MOUNTS = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-rm")


def test_too_many_connections():
    with running_broker("twice=tests.faults.models:twice", "--max-connections", "3") as broker:
        bystander = Bystander(broker.socket_path)
        with bystander, ExitStack() as stack:
            before = leaks.census(broker)
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


def can_mount():
    probe = [*NEW_MOUNTS, *SMALL_SHM, "true"]
    return (
        shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not can_mount(), reason="no right to mount a small /dev/shm in a namespace of its own")
def test_shm_is_full():
    """1 MiB of /dev/shm, and a model with 512 KiB for a slot."""
    with running_broker("large=tests.faults.models:large", prefix=(*NEW_MOUNTS, *SMALL_SHM)) as broker:
        root = f"/proc/{broker.pid}/root"
        shm = Path(root + "/dev/shm")
        with Peer(broker.socket_path, root).hello() as peer:
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
            ring = peer.open("large", slots=1)
            ring.write(0, 4.0)
            assert peer.ask(*ring.infer(5))[0] == 69
        ring.memory.close()
        until(lambda: not list(shm.iterdir()) and not leaks.maps(broker))
        until(lambda: os.statvfs(shm).f_bfree == os.statvfs(shm).f_blocks)


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
