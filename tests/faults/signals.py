"""Who the processes of a broker are, and what is done to them."""

import os
import signal
from contextlib import contextmanager
from pathlib import Path


def kill(pid, number=signal.SIGKILL):
    os.kill(pid, number)


@contextmanager
def stopped(pid):
    """A process that does nothing meanwhile."""
    kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        kill(pid, signal.SIGCONT)


def worker_of(broker, client):
    """The process that serves a client."""
    (pid,) = [w["pid"] for w in broker.status()["pools"]["default"]["workers"] if w["index"] == client.welcome[7]]
    return pid


def loader_of(broker):
    """The process that the workers were forked from."""
    (pid,) = {parent_of(worker) for worker in broker.worker_pids}
    assert pid != broker.pid
    return pid


def parent_of(pid):
    return int(_stat(pid)[1])


def is_alive(pid):
    try:
        return _stat(pid)[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # or while it was read
        return False


def is_stopped(pid):
    return _stat(pid)[0] == "T"


def _stat(pid):
    """What follows the name in /proc/PID/stat: the state, the parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
