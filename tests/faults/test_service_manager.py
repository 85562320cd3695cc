"""A service manager that passes the listening socket, and is told: systemd's own tool, and one of the tests'."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker import admin
from tests.conftest import ROOT, START_TIMEOUT_S, broker_command
from tests.faults.deployed import ENVIRONMENT, TWICE, ends, health, started
from tests.faults.wire import Bystander, Peer, until


class Manager:
    """What systemd hears."""

    def __init__(self, folder):
        self.address = str(folder / "notify.sock")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.settimeout(START_TIMEOUT_S)
        self.sock.bind(self.address)

    def hears(self):
        """The next message, as a dict."""
        return dict(line.split("=", 1) for line in self.sock.recv(4096).decode().split("\n"))


@pytest.fixture
def manager(tmp_path):
    told = Manager(tmp_path)
    with told.sock:
        yield told


def test_the_manager_hears_of_everything(tmp_path, manager):
    path, file = str(tmp_path / "broker.sock"), tmp_path / "broker.toml"
    right = '[[model]]\nname = "twice"\nfactory = "tests.faults.models:twice"\n'
    file.write_text(right)
    serving = {"READY": "1", "STATUS": f"serving on {path}"}
    with started(
        broker_command("serve", "--config", str(file), "--socket", path), NOTIFY_SOCKET=manager.address
    ) as process:
        assert manager.hears() == serving
        before_us = time.monotonic_ns() // 1000
        process.send_signal(signal.SIGHUP)
        reloading = manager.hears()
        assert reloading["RELOADING"] == "1"
        assert before_us <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert manager.hears() == serving
        file.write_text("[[model]]")
        process.send_signal(signal.SIGHUP)
        assert manager.hears()["RELOADING"] == "1"
        failed = manager.hears()
        assert failed["READY"] == "1"
        assert failed["STATUS"].startswith(f"serving on {path}; the last reload failed: ")
        process.send_signal(signal.SIGTERM)
        assert manager.hears()["STOPPING"] == "1"
        assert process.wait(START_TIMEOUT_S) == 0


def test_the_manager_hears_why_a_start_failed(tmp_path, manager):
    command = broker_command("serve", "bad=tests.faults.models:raising", "--socket", str(tmp_path / "broker.sock"))
    with started(command, NOTIFY_SOCKET=manager.address) as process:
        heard = manager.hears()
        assert heard["STOPPING"] == "1"
        assert "FACTORY_FAILED" in heard["STATUS"]
        assert process.wait(START_TIMEOUT_S) == 1


def is_listened_on(path):
    """Whether a process listens there, without a connection, which would start the broker."""
    sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(each[3] == "00010000" and each[-1] == path for each in sockets)


@contextmanager
def activated(path, *listen, **environment):
    """A broker that systemd-socket-activate starts at the first connection."""
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd-socket-activate is not installed (Debian: systemd)")
    setenv = [f"--setenv={name}={value}" for name, value in {**ENVIRONMENT, **environment}.items()]
    command = [activate, *(f"--listen={each}" for each in listen), *setenv]
    with started([*command, *broker_command("serve", TWICE, "--socket", path)]) as process:
        until(lambda: all(map(is_listened_on, listen)))
        yield process


def test_socket_activation(tmp_path, manager):
    path = str(tmp_path / "broker.sock")
    with activated(path, path, NOTIFY_SOCKET=manager.address) as process:
        with Bystander(path):  # whose connection starts the broker, and waits in the socket until it serves
            assert manager.hears()["READY"] == "1"
            assert admin.ask(path, "status")["pid"] == process.pid
            assert health(path, "--ready") == (0, "ready")
        assert ends(process) == 0
    assert Path(path).exists(), "the socket is the manager's"
    assert not Path(f"{path}.admin").exists()


def test_socket_activation_of_the_admin_socket_too(tmp_path):
    path = str(tmp_path / "broker.sock")
    with activated(path, path, f"{path}.admin") as process:
        assert health(path) == (0, "live")
        until(lambda: health(path, "--ready") == (0, "ready"))
        assert ends(process) == 0
    assert Path(path).exists()
    assert Path(f"{path}.admin").exists()


def test_connections_wait_in_the_managers_socket_while_the_broker_restarts(tmp_path):
    """The same listening socket for two brokers, one after the other, as systemd does it."""
    path = str(tmp_path / "broker.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        with given(listening, path) as first:
            with Peer(path).hello():
                pass
            assert ends(first) == 0
        waiting = Peer(path)
        with given(listening, path), waiting:
            waiting.hello()


@contextmanager
def given(listening, path):
    """A broker that gets the socket as descriptor 3."""
    script = (
        'import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")'
    )
    script += "; os.execv(sys.executable, sys.argv[2:])"
    command = [sys.executable, "-c", script, str(listening.fileno()), *broker_command("serve", TWICE, "--socket", path)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, pass_fds=(listening.fileno(),)
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_socket_activation_of_another_path(tmp_path):
    path, other = str(tmp_path / "broker.sock"), str(tmp_path / "other.sock")
    with activated(path, other) as process, socket.socket(socket.AF_UNIX) as sock:
        sock.connect(other)
        assert process.wait(START_TIMEOUT_S) == 1
    assert {left.name for left in tmp_path.iterdir()} == {"other.sock", "broker.sock.lock"}
