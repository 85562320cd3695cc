"""The lifeline: no child outlives the supervisor, whatever it is doing.

The supervisor holds the one writing end of a pipe. Every child asks the kernel for SIGIO when that end is closed, and
leaves the signal its default, which ends the process: also one whose only thread is inside a model. (The kernel's
signal at the parent's death does not do: a worker's parent is the loader, whose death it survives.)
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
from collections.abc import Container
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of workers whose loader dies, so that they can be reaped here."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(orphans: list[int]) -> None:
    """Take those that have ended from the list, and from the system's."""
    for pid in list(orphans):
        try:
            is_left = os.waitpid(pid, os.WNOHANG) == (0, 0)
        except ChildProcessError:  # its loader is there still, and was quicker, or ends first and leaves it to us
            is_left = Path(f"/proc/{pid}").exists()
        if not is_left:
            orphans.remove(pid)


def reap_strays(loaders: Container[int]) -> None:
    """Reap whom nobody waits for: what the models of dead workers left. The status of a loader is its generation's."""
    with contextlib.suppress(ChildProcessError):  # there is no child at all
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in loaders:
                return
            os.waitpid(ended.si_pid, 0)


def end_with(parent: int) -> None:
    """Let this process end when the one that has just forked it does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was quicker
        os.kill(os.getpid(), signal.SIGKILL)


def make() -> tuple[int, int]:
    """The reading end, for children to inherit, and the writing one, to be kept."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_inheritable(reading, True)
    return reading, writing


def hold(reading: int) -> None:
    """Let this process end when the supervisor does, or at once where it is gone already."""
    own = os.open(f"/proc/self/fd/{reading}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # signals are told per open
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    poller = select.poll()
    poller.register(own, 0)
    if poller.poll(0):
        os.kill(os.getpid(), signal.SIGIO)
