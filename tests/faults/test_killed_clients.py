"""kill -9 of a client at every point of the protocol: nobody else notices, and nothing of it is left."""

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.faults import leaks
from tests.faults.victim import POINTS
from tests.faults.wire import until

KILLS = 20


@pytest.fixture(scope="module")
def victims(broker):
    command = [sys.executable, "-m", "tests.faults.victim", broker.socket_path]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as zygote:
        yield zygote
        zygote.stdin.close()


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(point, broker, victims, undisturbed):
    for _ in range(KILLS):
        until(lambda: not leaks.names(broker))
        print(point, file=victims.stdin, flush=True)
        pid = int(victims.stdout.readline())
        if point == "opened":
            assert len(leaks.names(broker)) == 1, "the segment has its name until it is attached"
        os.kill(pid, signal.SIGKILL)
