"""Probes, by the command and over HTTP: what they say from the start to the end, whatever models and clients do."""

import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from broker.health import MAX_PROBES
from tests.conftest import ROOT, START_TIMEOUT_S, broker_command, running_broker
from tests.faults import leaks
from tests.faults.deployed import ENVIRONMENT, TWICE, health, started
from tests.faults.models import twice
from tests.faults.signals import kill, parent_of, stopped
from tests.faults.wire import Bystander, Peer, until

SLOW = "slow=tests.faults.models:slow"
STUCK = "stuck=tests.faults.models:stuck"
WAITING = "waiting=tests.faults.test_probes:waiting"


def waiting(path):
    """`twice`, as soon as there is a file at `path`."""
    while not Path(path).exists():
        time.sleep(0.01)
    return twice()


def test_health_from_the_start_to_the_end(tmp_path):
    path, gate = tmp_path / "broker.sock", tmp_path / "gate"
    assert health(path) == (1, f"not live: no broker answers on {path}: No such file or directory")
    command = broker_command("serve", WAITING, "--argument", f"path={gate}", "--socket", str(path))
    with started(command) as process:
        until(lambda: health(path) == (0, "live"))
        assert health(path, "--ready") == (1, "not ready: the models are being loaded")
        gate.touch()
        until(lambda: health(path, "--ready") == (0, "ready"))
        with Peer(str(path)).hello():
            process.send_signal(signal.SIGTERM)
            until(lambda: health(path, "--ready") == (1, "not ready: the broker is stopping"))
            assert health(path) == (0, "live")
        assert process.wait(START_TIMEOUT_S) == 0
    assert health(path)[0] == 1


def test_health_does_not_wait_for_a_model():
    with running_broker(STUCK) as broker, Peer(broker.socket_path).hello() as peer:
        ring = peer.open("stuck")
        ring.write(0, 13.0, 0.0, 0.0, 0.0)
        peer.send(ring.infer(1))
        until(lambda: broker.status()["in_flight"] == 1)
        assert health(broker.socket_path, "--ready") == (0, "ready")


def test_a_pool_without_a_worker_is_not_ready(tmp_path):
    """The worker's replacement cannot come: the loader is stopped."""
    with running_broker(TWICE, SLOW, "--pool", "second=slow") as broker:
        pid = broker.status()["pools"]["second"]["workers"][0]["pid"]
        with stopped(parent_of(pid)):
            kill(pid)
            until(lambda: health(broker.socket_path, "--ready") == (1, "not ready: no worker serves the pool second"))
            assert health(broker.socket_path)[0] == 0
        until(lambda: health(broker.socket_path, "--ready") == (0, "ready"))


@pytest.fixture(scope="module")
def probed():
    """A broker that answers HTTP probes, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running_broker(TWICE, "--health-port", str(port)) as broker:
        yield broker, port
        assert broker.stop() == 0


def asked(port, request):
    """Everything that is answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT_S) as sock:
        answer = b""
        try:
            sock.sendall(request)
            while data := sock.recv(65536):
                answer += data
        except (ConnectionResetError, BrokenPipeError):  # it was answered, and closed, before it had sent all
            pass
        return answer


def test_http(probed):
    _, port = probed
    assert asked(port, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert asked(port, b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").endswith(b"\r\n\r\nready\n")
    with socket.socket() as sock:  # the loopback alone: its other addresses are refused too
        assert sock.connect_ex(("127.0.0.2", port)) != 0


def test_http_of_bad_clients(probed):
    broker, port = probed
    with Bystander(broker.socket_path, "twice"):
        for request in (b"\0" * 100 + b"\r\n\r\n", b"x" * 2**20, b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * 2**17):
            answer = asked(port, request)
            assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
        before = leaks.descriptors(broker.pid)["socket"]
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]  # more than are taken
        try:
            for sock in slow:
                sock.send(b"GET /")
            assert health(broker.socket_path, "--ready") == (0, "ready")
            assert leaks.descriptors(broker.pid)["socket"] <= before + MAX_PROBES
            until(lambda: asked(port, b"GET /readyz HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200 "))
        finally:
            for sock in slow:
                sock.close()


def test_http_port_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = broker_command("serve", TWICE, "--socket", str(tmp_path / "s"), "--health-port", str(port))
        done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"6102 SOCKET_INVALID: cannot make it: Address already in use (at 127.0.0.1:{port})" in done.stderr
    assert [left.name for left in tmp_path.iterdir()] == ["s.lock"]
