"""The vectors on disk are what `make vectors` writes."""

import shutil
import subprocess
import sys

from tests.conformance.vectors import SPEC


def check(spec):
    return subprocess.run(
        [sys.executable, spec / "make_vectors.py", "--check"], capture_output=True, text=True, timeout=60, check=False
    )


def test_vectors_are_current():
    run = check(SPEC)
    assert run.returncode == 0, run.stderr


def test_a_stale_file_is_noticed(tmp_path):
    copy = shutil.copytree(SPEC, tmp_path / "spec")
    with (copy / "vectors" / "layouts.json").open("a") as layouts:
        layouts.write("\n")
    run = check(copy)
    assert run.returncode == 1
    assert run.stderr.splitlines() == ["layouts.json is not current: run `make vectors`"]
