"""SIGSTOP of a client: others are served, its rows and answers are kept, and it goes on where it was."""

import signal
import subprocess
import sys
from contextlib import contextmanager

from broker import admin
from tests.conftest import ROOT, START_TIMEOUT_S, running_broker
from tests.faults import leaks
from tests.faults.conftest import models
from tests.faults.deployed import ENVIRONMENT
from tests.faults.load import Load
from tests.faults.signals import is_stopped, kill
from tests.faults.wire import until

MEMORY_BOUND_BYTES = 16 * 2**20  # a megabyte of answers, and what the loop reads meanwhile
ANSWER = "[[0.0, 2.0, 4.0, 6.0], [8.0, 10.0, 12.0, 14.0]]"


class Guest:
    """A client process."""

    def __init__(self, process):
        self._process = process

    def tell(self):
        """Let it go on; it reads that when it runs."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def hear(self):
        return self._process.stdout.readline().strip()

    def stop(self):
        self._process.send_signal(signal.SIGSTOP)
        until(lambda: is_stopped(self._process.pid))

    def go_on(self):
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def guest(broker, kind):
    command = [sys.executable, "-m", "tests.faults.guest", broker.socket_path, kind]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Guest(process)
        finally:
            kill(process.pid)


def test_one_that_holds_a_lease(broker, undisturbed):
    with guest(broker, "holding") as stopped:
        assert stopped.hear() == ANSWER
        held = leaks.settled(broker)
        stopped.stop()
        stopped.tell()
        undisturbed.wait_for_more(200)
        assert leaks.settled(broker) == held, "its ring is there, and nothing more"
        stopped.go_on()
        assert stopped.hear() == ANSWER


def test_one_whose_answers_fill_its_socket(broker, undisturbed):
    before = leaks.private_bytes(broker)
    with guest(broker, "flooding") as stopped:
        asked = stopped.hear()
        stopped.stop()
        stopped.tell()
        undisturbed.wait_for_more(200)
        assert leaks.private_bytes(broker) - before < MEMORY_BOUND_BYTES
        stopped.go_on()
        assert stopped.hear() == f"{asked} 42.0", "each request has its answer"


def test_one_that_is_sent_away_meanwhile():
    """Its worker has gone when it goes on; its rows, and what is in them, have not."""
    with running_broker(*models("twice"), "--drain-grace-s", "0.5") as broker:
        with Load(broker.socket_path, clients=2, rate=100.0) as load, guest(broker, "holding") as stopped:
            assert stopped.hear() == ANSWER
            load.wait_for_more()
            before = leaks.settled(broker)
            stopped.stop()
            stopped.tell()
            assert admin.ask(broker.socket_path, "reload", START_TIMEOUT_S) == {"generation": 2}
            until(lambda: len(leaks.processes(broker)) == before["processes"])  # its worker is gone
            until(lambda: broker.status()["resumable_sessions"] == 1)
            load.wait_for_more()
            stopped.go_on()
            assert stopped.hear() == ANSWER
            leaks.assert_back_to(before, broker)
        load.check()
        assert load.lost == 0
        assert broker.stop() == 0
