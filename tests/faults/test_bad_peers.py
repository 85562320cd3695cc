"""Clients that say half of something, say it slowly, or never listen: they hurt nobody but themselves."""

import ast
import os
import select
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import ringbroker

from tests.conftest import ROOT
from tests.faults import leaks
from tests.faults.wire import HELLO, Peer, framed, until

MODEL = "twice"
MEMORY_BOUND_BYTES = 64 * 2**20
FLOOD_LIMIT_S = 60
NOBODY = 65534


def conversation(path):
    """The bytes of a whole conversation: the same in every session, as rings are numbered from 1."""
    with Peer(path).hello() as peer:
        ring = peer.open(MODEL)
        return framed(
            HELLO,
            [2, 1, 0],
            [3, 2, MODEL, None, 4, {}, {}],
            [4, 1, 0],
            ring.infer(3, trace="cut"),
            [6, 3],
            [8, 4],
            [7, 5, 1],
        )


@pytest.mark.parametrize("is_half_closed", [False, True], ids=["closed", "half-closed"])
def test_end_after_every_byte(is_half_closed, broker, undisturbed):
    whole = conversation(broker.socket_path)
    for length in range(len(whole)):
        with Peer(broker.socket_path) as peer:
            peer.socket.sendall(whole[:length])
            if is_half_closed:
                peer.socket.shutdown(socket.SHUT_WR)
                with pytest.raises(EOFError):  # it answers what was whole, and closes
                    while True:
                        peer.receive()


def test_one_byte_at_a_time(broker, undisturbed):
    with Peer(broker.socket_path) as peer:
        for byte in conversation(broker.socket_path):
            peer.socket.sendall(bytes([byte]))
            time.sleep(0.002)
        assert [peer.receive()[0] for _ in range(6)] == [65, 66, 67, 69, 72, 71]


def test_no_hello_in_time(broker, undisturbed):
    """HANDSHAKE_TIMEOUT for silence, for a part, and for bytes that trickle in."""
    whole = framed(HELLO)
    starts = (b"", b"\x10", whole[:-1])
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(broker.socket_path)) for _ in starts]
        for peer, start in zip(peers, starts, strict=True):
            peer.socket.sendall(start)
        trickling = stack.enter_context(Peer(broker.socket_path))
        trickling.socket.sendall((60000).to_bytes(4, "little"))
        while not select.select([trickling.socket], [], [], 0.2)[0]:
            trickling.socket.sendall(b"\x91")
        for peer in (*peers, trickling):
            assert peer.error() == 1008
            assert peer.is_at_end()


def resident_bytes(broker):
    """Of the supervisor and the worker."""
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in (broker.pid, broker.worker_pid)]
    return sum(int(status.partition("VmRSS:")[2].split()[0]) * 1024 for status in statuses)


def test_clients_that_never_read(broker, undisturbed):
    """They send until nothing more is taken; then the broker closes them, and was never much larger for it."""
    before = resident_bytes(broker)
    floods = {}
    for kind in ("ping", "list", "refused", "infer"):
        peer = Peer(broker.socket_path).hello()
        ring = peer.open(MODEL)
        floods[peer] = {
            "ping": framed([8, 2**53 - 1]) * 1000,
            "list": framed([2, 1, 0]) * 1000,
            "refused": framed([5, 1, 9, 0, 1, [], None, None, None, {}]) * 1000,
            "infer": framed(*(ring.infer(number, number % 4) for number in range(1000))),
        }[kind]
        peer.socket.setblocking(False)
    largest = before
    open_peers = set(floods)
    deadline = time.monotonic() + FLOOD_LIMIT_S
    while open_peers:
        assert time.monotonic() < deadline, "a client that does not read was not closed"
        for peer in list(open_peers):
            try:
                peer.socket.send(floods[peer])  # now and then cut in the middle: then what follows is garbage
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                open_peers.remove(peer)
        largest = max(largest, resident_bytes(broker))
        select.select([], [], [], 0.002)
    for peer in floods:
        peer.socket.close()
    assert largest - before < MEMORY_BOUND_BYTES
    assert "client does not read, closing" in broker.log


def test_client_that_hangs_up_in_its_own_flood(broker, undisturbed):
    for _ in range(20):
        with Peer(broker.socket_path).hello() as peer:
            ring = peer.open(MODEL)
            peer.send(*(ring.infer(number, number % 4) for number in range(100)))


def test_client_that_leaves_while_its_model_runs(broker, undisturbed):
    with (
        ringbroker.connect(broker.socket_path) as client,
        client.open("slow") as model,
        model.acquire() as lease,
        pytest.raises(TimeoutError),
    ):
        lease.infer(timeout=0.01)


def test_ring_that_cannot_be_mapped_is_freed(broker, undisturbed):
    with Peer(broker.socket_path).hello() as peer:
        before = leaks.maps(broker)
        answer = peer.ask(3, 1, MODEL, None, 4, {}, {})
        peer.send([4, answer[2], 2011])  # ATTACH_FAILED
        until(lambda: leaks.maps(broker) == before and not leaks.names(broker))
        assert peer.ask(8, 1) == [72, 1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused(broker, undisturbed):
    """The socket's mode keeps others out; where an operator opened it, the broker still looks who calls."""
    path = Path(broker.socket_path)
    for place in (path.parent, path):
        place.chmod(0o777)
    try:
        code = f"import os; from tests.faults.wire import Peer; os.setuid({NOBODY}); p = Peer({str(path)!r})"
        code += "; print(p.receive())"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    finally:
        path.chmod(0o600)
        path.parent.chmod(0o700)
    answer = ast.literal_eval(done.stdout)
    assert answer[:3] == [64, None, 6007], answer  # PEER_REFUSED
