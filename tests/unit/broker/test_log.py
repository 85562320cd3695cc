"""Logs: one line for each event, whatever is in it; as text, a traceback's lines after it."""

import json
import logging
import subprocess
import sys
import traceback

import pytest

from broker.log import JsonFormatter, TextFormatter

ODD = 'a b="c"\nd\u2028\x1b[31m\udc80'


def record(event="it happened", exc_info=None, **fields):
    made = logging.LogRecord("broker.test", logging.WARNING, "file.py", 1, event, None, exc_info)
    made.__dict__.update(fields)
    made.created = 1_700_000_000.25
    return made


def raised():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        return sys.exc_info()


def test_text():
    line = TextFormatter().format(record(session=7, client="python", empty="", none=None, odd="a b"))
    assert line == '2023-11-14T22:13:20.250Z warning it happened session=7 client=python empty="" odd="a b"'


def test_json():
    line = JsonFormatter().format(record(session=7, odd=ODD, none=None, other={1}))
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "broker.test",
        "event": "it happened",
        "session": 7,
        "odd": ODD,
        "other": "{1}",
    }


@pytest.mark.parametrize(
    ("formatter", "fields"),
    [
        (TextFormatter(), {"odd": ODD}),
        (JsonFormatter(), {"odd": ODD}),
        (JsonFormatter(), {"exc_info": raised()}),
        (JsonFormatter(), {"traceback": "a\r\nb\x85c"}),
    ],
)
def test_one_line_per_event(formatter, fields):
    line = formatter.format(record(**fields))
    assert len(line.splitlines()) == 1
    assert line.isprintable()


@pytest.mark.parametrize("is_field", [False, True])
def test_a_traceback_can_be_read_as_text(is_field):
    error = raised()
    said = {"traceback": "".join(traceback.format_exception(*error))} if is_field else {"exc_info": error}
    event, *lines = TextFormatter().format(record(session=7, **said)).split("\n")
    assert event.endswith("it happened session=7")
    assert lines[0] == "    Traceback (most recent call last):"
    assert lines[-2:] == ["    ValueError: two", "    lines"]


def test_no_line_of_a_traceback_looks_like_an_event():
    text = TextFormatter().format(record(traceback="a\r\nb\x85c\x1b[31md\n\udc80"))
    assert text.splitlines()[1:] == ["    a", "    b", "    c\\x1b[31md", "    \\udc80"]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_configure_sends_everything_to_stderr(log_format):
    code = (
        "import logging, sys\nfrom broker import log\n"
        "log.configure(sys.argv[1])\nlog.configure(sys.argv[1])\n"
        "logging.getLogger('broker.x').info('hello', extra={'n': 1})\n"
        "logging.getLogger('broker.x').debug('not said')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, log_format], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.endswith("info    hello n=1") if log_format == "text" else json.loads(line)["n"] == 1
