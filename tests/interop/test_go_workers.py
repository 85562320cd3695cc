"""The Go client and a real broker whose workers die, hang and are replaced: its own tests, under the race detector."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, running_broker
from tests.interop.models import SOURCES

MODELS = [f"affine={SOURCES['affine']}", f"slow={SOURCES['slow']}", "hangs=tests.faults.models:hangs"]
OPTIONS = ["--workers", "2", "--pool", "other=slow", "--pool-workers", "other=1", "--max-execution-s", "2"]
OPTIONS += ["--resume-grace-s", "3600"]  # so that what a client leaves behind is still there to be found


def test_workers_are_killed_and_replaced():
    with running_broker(*MODELS, *OPTIONS) as broker:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GOTOOLCHAIN": "local",
            "GOPROXY": "off",
            "GOFLAGS": "-mod=mod",
            "CGO_ENABLED": "1",
            "RINGBROKER_TEST_WORKERS": broker.socket_path,
        }
        command = ["/usr/bin/env", "go", "test", "-race", "-count=1", "-v", "-run", "TestRealWorkers", "."]
        folder = ROOT / "clients" / "go"
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("\n--- PASS: TestRealWorkers") == 8
        assert "SKIP" not in done.stdout
        assert broker.stop() == 0
