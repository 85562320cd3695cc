"""Descriptors by the thousand: the limit is raised as far as it goes, and nothing stops counting at 1024."""

import os
import resource
import signal
from contextlib import ExitStack

import pytest

from broker import admin
from tests.conftest import START_TIMEOUT_S, running_broker
from tests.faults import leaks
from tests.faults.wire import HELLO, Bystander, Peer, until

TWICE = "twice=tests.faults.models:twice"
HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def limited(options):
    """A shell that sets this limit, and becomes the broker."""
    return ("sh", "-c", f'ulimit {options} && exec "$@"', "sh")


def test_the_soft_limit_is_raised_to_the_hard_one_for_all_processes():
    with running_broker(TWICE, "--max-connections", "4", prefix=limited("-Sn 40")) as broker:
        assert {resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in leaks.processes(broker)} == {(HARD, HARD)}
        assert f"descriptors that each process may open limit={HARD}\n" in broker.log
        assert "too few descriptors" not in broker.log


def test_a_limit_that_is_too_low_is_told_at_the_start():
    with running_broker(TWICE, "--max-connections", "20", "--max-rings", "10", prefix=limited("-n 300")) as broker:
        assert "too few descriptors" in broker.log
        assert "limit=300 needed=348 max_connections=20 max_rings=10\n" in broker.log


def test_a_session_with_the_most_rings_is_resumed():
    """127 segments and the connection go to the next worker in one packet."""
    with running_broker(TWICE, "--max-rings", "127") as broker, ExitStack() as stack:
        peer = stack.enter_context(Peer(broker.socket_path))
        welcome = peer.ask(*HELLO)
        for number in range(127):
            answer = peer.ask(3, number, "twice", None, 1, {}, {})
            peer.send([4, answer[2], 0])
        until(lambda: not leaks.names(broker))  # all are attached
        os.kill(broker.worker_pid, signal.SIGKILL)
        again = stack.enter_context(Peer(broker.socket_path))
        resumed = again.ask(*HELLO[:-1], {"resume": welcome[4]})
        assert resumed[9]["rings"] == [[number, 0] for number in range(1, 128)]


@pytest.mark.skipif(HARD < 4096, reason="fewer descriptors than the test needs may be opened here")
def test_a_reload_while_clients_have_more_than_a_thousand_rings():
    with running_broker(TWICE) as broker, ExitStack() as stack:
        leaks.settled(broker)
        before = leaks.descriptors(broker.pid).total()
        peers = [stack.enter_context(Peer(broker.socket_path).hello()) for _ in range(20)]
        for peer in peers:
            for number in range(60):
                _, _, ring, *_ = answer = peer.ask(3, number, "twice", None, 1, {}, {})
                assert answer[0] == 67, answer
                peer.send([4, ring, 0])
        assert leaks.descriptors(broker.pid).total() >= before + 1200
        assert admin.ask(broker.socket_path, "reload", START_TIMEOUT_S) == {"generation": 2}
        with Bystander(broker.socket_path) as bystander:
            bystander.wait_for_more(50)
