"""Models that leave processes of their own behind, and models that cannot be forked."""

import ctypes
import errno
import os
import signal
import subprocess
from pathlib import Path

from tests.conformance.reference_models import Model
from tests.faults.models import ROW
from tests.faults.traps import Trap

BY_PYTHON, BY_C = 1.0, 2.0
"""Who forks the helper, says the first value to `helped`: Python tells the broker's code in the child, C does not."""


def commanding(folder):
    """y = 2 * x; its factory starts a command, and does not wait for it."""
    child = subprocess.Popen(["sleep", "600"])
    Trap(folder).runs.write_text(f"{child.pid}\n")
    return Model(lambda x: 2 * x, {"x": ROW}, {"y": ROW})


def helped(folder):
    """y = 2 * x; or it forks a helper, which stays when the worker then ends by SIGSEGV."""

    def run(x):
        fork = {BY_PYTHON: os.fork, BY_C: ctypes.PyDLL(None).fork}.get(float(x.flatten()[0]))
        if fork is not None:
            if fork() == 0:
                Trap(folder).enter()
                os._exit(0)
            Trap(folder).wait_for(1)
            ctypes.string_at(0)
        return 2 * x

    return Model(run, {"x": ROW}, {"y": ROW})


def unforkable(folder):
    """y = 2 * x; while it is told to wait, the process that loaded it can fork no other."""
    fork = os.fork

    def refuse():
        if not Trap(folder).leave.exists():
            with Trap(folder).runs.open("a") as file:
                file.write(f"{os.getpid()}\n")
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    os.fork = refuse
    return Model(lambda x: 2 * x, {"x": ROW}, {"y": ROW})


def alone(folder):
    """y = 2 * x; it cannot be run in forks of the process that loaded it, and loading it in a worker waits."""
    loader = os.getpid()
    if "--each-worker-loads" in Path("/proc/self/cmdline").read_text():
        Trap(folder).enter()

    def run(x):
        if os.getpid() != loader:
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * x

    return Model(run, {"x": ROW}, {"y": ROW})


def long_winded():
    """Says too much of what is wrong with it."""
    raise ValueError("x" * 2**20)


def served(factory, trap):
    """The arguments of `broker serve` for one of these, as the model m."""
    return (f"m={__name__}:{factory.__name__}", "--argument", f"m/folder={trap.folder}")
