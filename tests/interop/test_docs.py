"""Pages of docs/ that show a session at a terminal: their files are written, their commands run, their outputs so.

A file is a block of code below a line that names it. In a `console` block a line with `$` is a command, and
what follows is what it prints (a line that ends in `...`, how it begins); where nothing follows, it has to succeed.
"""

import os
import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT, running_broker

BLOCK = re.compile(
    r"(?:^[^`\n]*`(?P<file>[\w/-]+\.\w+)`[^\n]*:\n\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
SERVE = "broker serve "
OFFLINE = {"GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}


class Command(NamedTuple):
    line: str
    printed: str


def commands_of(console):
    """The commands of a block, with what they print."""
    for part in console.split("$ ")[1:]:
        line, _, printed = part.partition("\n")
        yield Command(line, printed)


def is_printed(printed, lines):
    """Whether these lines were printed; one that ends in `...` tells how the line begins."""
    found, expected = rounded(printed).splitlines(), rounded(lines).splitlines()
    return len(found) == len(expected) and all(
        one.startswith(other[:-3]) if other.endswith("...") else one == other
        for one, other in zip(found, expected, strict=True)
    )


def rounded(text):
    """The text with its long decimals cut: the last ones are the processor's."""
    return re.sub(r"\d+\.\d{6,}|\d\.\de[+-]\d\d", lambda number: f"{float(number[0]):.5f}"[:7], text)


class Terminal:
    """A folder, and a broker where one was started."""

    def __init__(self, folder, stack):
        self.folder = folder
        self.stack = stack
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, **OFFLINE, "PATH": path, "RINGBROKER_SOCKET": str(folder / "broker.sock")}

    def run(self, command):
        if command.line.startswith(SERVE):
            self.stack.close()
            arguments = shlex.split(command.line.removeprefix(SERVE))
            inside = ("env", "-C", str(self.folder))
            self.stack.enter_context(running_broker(*arguments, prefix=inside, folder=self.folder))
            return
        done = subprocess.run(
            command.line.replace("/path/to/ringbroker", str(ROOT)),
            shell=True,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command.line}\n{done.stderr}"
        if command.printed:
            assert is_printed(done.stdout, command.printed), f"{command.line}\n{done.stdout}"


@pytest.mark.parametrize("page", ["first-model", "recipes", "repository"])
def test_a_page_is_what_happens(page, tmp_path):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    count = 0
    with ExitStack() as stack:
        terminal = Terminal(tmp_path, stack)
        for block in BLOCK.finditer(text):
            if block["language"] == "console":
                for command in commands_of(block["text"]):
                    terminal.run(command)
                    count += 1
            elif block["file"]:
                (tmp_path / block["file"]).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / block["file"]).write_text(block["text"])
    assert count > 0
