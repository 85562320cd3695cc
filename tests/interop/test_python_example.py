"""The Python example classifies the digits against a real broker."""

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "python" / "digits.py"


def test_digits(start_broker):
    socket_path = start_broker({"digits": "broker.demo:digits"})
    command = [sys.executable, "-W", "error", EXAMPLE, "--socket", socket_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "0.984" in done.stdout or "98.4" in done.stdout, done.stdout
