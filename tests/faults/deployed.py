"""A broker as it is deployed: the process, its probe, its end."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

from tests.conftest import ROOT, START_TIMEOUT_S

TWICE = "twice=tests.faults.models:twice"
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python'}"}


def health(path, *arguments):
    """The exit code of `broker health`, and its line."""
    command = [sys.executable, "-m", "broker", "health", "--socket", str(path), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.rstrip("\n")


@contextmanager
def started(command, **environment):
    """A process with this environment; it is killed at the end."""
    process = subprocess.Popen(command, cwd=ROOT, env={**ENVIRONMENT, **environment}, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ends(process):
    """SIGTERM, and the exit code."""
    process.send_signal(signal.SIGTERM)
    return process.wait(START_TIMEOUT_S)
