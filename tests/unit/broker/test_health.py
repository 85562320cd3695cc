"""`broker health`: what a probe asks, and what it is told."""

import os
import signal
import subprocess
import sys

import pytest

from broker import health
from tests.conftest import ROOT, running_broker

TWICE = "twice=tests.faults.models:twice"


def test_nobody_there(tmp_path, capsys):
    path = str(tmp_path / "broker.sock")
    assert health.main(["--socket", path]) == 1
    assert capsys.readouterr().out.startswith(f"not live: no broker answers on {path}: ")


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["--reddy"], 2), (["--socket"], 2), (["now"], 2)])
def test_usage(arguments, code, capsys):
    assert health.main(arguments) == code
    assert "usage: broker health" in "".join(capsys.readouterr())


def test_a_broker_from_its_start_to_its_end(tmp_path, capsys):
    path = str(tmp_path / "broker.sock")
    with running_broker(TWICE, folder=tmp_path) as broker:
        assert health.main(["--ready", f"--socket={path}"]) == 0
        os.kill(broker.worker_pid, signal.SIGSTOP)
        try:
            assert health.main(["--ready", "--socket", path]) == 0, "no worker is asked"
        finally:
            os.kill(broker.worker_pid, signal.SIGCONT)
    assert capsys.readouterr().out == "ready\nready\n"


def test_live_before_it_is_ready(tmp_path, capsys):
    path = str(tmp_path / "broker.sock")
    command = [sys.executable, "-m", "broker", "serve", "m=tests.faults.models:endless", "--socket", path]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            while health.main(["--socket", path]) != 0:
                assert process.poll() is None
            assert health.main(["--ready", "--socket", path]) == 1
            assert capsys.readouterr().out.endswith("live, not ready: its models are being loaded\n")
        finally:
            process.kill()


def test_it_imports_nothing_that_takes_long():
    code = (
        "import sys; sys.argv = ['broker', 'health', '--socket', '/nowhere']\n"
        "from broker.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'click', 'msgspec', 'numpy', 'asyncio', 'broker.cli'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
