"""Real brokers for the tests: started as processes, on sockets of their own, ended by their id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker import admin

ROOT = Path(__file__).parent.parent
START_TIMEOUT_S = 120


@dataclass
class RunningBroker:
    """One `broker serve` process."""

    process: subprocess.Popen[str]
    socket_path: str
    log_path: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def worker_pids(self) -> list[int]:
        """The workers of all pools."""
        return [worker["pid"] for pool in self.status()["pools"].values() for worker in pool["workers"]]

    @property
    def worker_pid(self) -> int:
        """The only worker."""
        (pid,) = self.worker_pids
        return pid

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def status(self) -> dict:
        return admin.ask(self.socket_path, "status")

    def stop(self) -> int:
        """SIGTERM, and wait."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=START_TIMEOUT_S)


def broker_command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from broker.cli import main; main()", *arguments]


@contextmanager
def running_broker(
    *arguments: str, prefix: tuple[str, ...] = (), folder: Path | None = None
) -> Iterator[RunningBroker]:
    """Start `broker serve ARGUMENTS`, wait until it listens, and end it afterwards."""
    with ExitStack() as stack:
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rb-")))
        socket_path = str(folder / "broker.sock")
        log_path = folder / "broker.log"
        log = stack.enter_context(log_path.open("w"))
        command = [*prefix, *broker_command("serve", "--socket", socket_path, *arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        try:
            first_line = process.stdout.readline()  # blocks until it listens, or is gone
            assert first_line.startswith("serving on "), log_path.read_text()
            yield RunningBroker(process, socket_path, log_path)
        except BaseException:
            print(log_path.read_text())  # beside the failure
            raise
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture(scope="session")
def start_broker() -> Iterator[Callable[..., str]]:
    """A function from models (name to source) to the socket of a broker; the same models share one broker."""
    with ExitStack() as stack:
        started: dict[tuple, str] = {}

        def start(sources: dict[str, str], max_batch: int = 64) -> str:
            key = (*sorted(sources.items()), max_batch)
            if key not in started:
                models = [f"{name}={source}" for name, source in sources.items()]
                broker = stack.enter_context(running_broker(*models, "--max-batch", str(max_batch)))
                started[key] = broker.socket_path
            return started[key]

        yield start
