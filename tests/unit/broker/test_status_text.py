"""What `broker status` tells people, of a status that has everything in it."""

import pytest

from broker import status_text
from broker.stats import ModelCounters

COUNTS = ModelCounters(results=900, rows=900, batches=450, queue_ns=9_000_000, compute_ns=4_500_000)
STATUS = {
    "pid": 7,
    "socket": "/run/b.sock",
    "uptime_s": 7500.0,
    "is_draining": False,
    "open_sessions": 3,
    "waiting_sessions": 1,
    "resumable_sessions": 2,
    "open_rings": 1,
    "segment_bytes": 3 * 2**20,
    "max_memory_bytes": 4 * 2**30,
    "in_flight": 4,
    "requests": 1001,
    "errors": {"DEADLINE_EXCEEDED": 1},
    "generation": 2,
    "is_loading": True,
    "last_reload": {"generation": 2, "time": "12:00"},
    "pools": {
        "fast": {
            "models": ["m"],
            "threads": 2,
            "lost_workers": 3,
            "hung_workers": 1,
            "workers": [
                {"pid": 8, "index": 0, "is_serving": True, "sessions": 1, "in_flight": 1, "busy_s": 0.5},
                {"pid": 9, "index": 1, "is_serving": False, "sessions": 0, "in_flight": 0, "busy_s": 0.0},
            ],
        }
    },
    "models": {
        "m": {
            "source": "models/m/1/model.pt2",
            "results": 1000,
            "versions": {
                "1": {**COUNTS.as_dict(), "canary_percent": None},
                "2": {**COUNTS._replace(results=100, outputs_bytes=2048).as_dict(), "canary_percent": 10.0},
                "3": {**ModelCounters().as_dict(), "canary_percent": None},
            },
        }
    },
}


def test_everything():
    assert (
        "\n".join(status_text.as_lines(STATUS))
        == """\
broker    serving, generation 2, and another is loading; process 7, up 2 h, on /run/b.sock
sessions  3 open, 1 waiting, 2 to be resumed; 1 ring, 3.0 MiB of 4.0 GiB; 4 requests in flight
requests  1001 in all; errors: 1 DEADLINE_EXCEEDED
reload    generation 2 serves since 12:00

pool fast: 2 workers, 2 threads each; m
  3 workers lost, 1 hung and ended, since the broker started
  worker 0  process 8: 1 session, 1 in flight, busy for 0.5 s
  worker 1  process 9: 0 sessions, 0 in flight, not serving yet

model m: 1000 results; models/m/1/model.pt2
  version 1   90.0 %  900 results: 10.0 us queued, 10.0 us a batch of 2.0 rows
  version 2   10.0 %  canary of 10 %  100 results: 90.0 us queued, 10.0 us a batch of 2.0 rows, 2.0 KiB copied
  version 3    0.0 %  0 results"""
    )


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"is_draining": True, "is_loading": False}, "broker    draining, generation 2; "),
        ({"generation": None, "pools": {}}, "broker    starting, no generation yet; "),
        (
            {"last_reload": {"error": "MODEL_INVALID: bad (at m)", "code": 3103, "time": "12:00"}},
            "reload    failed at 12:00, and what served goes on: error 3103 MODEL_INVALID: bad (at m)",
        ),
    ],
)
def test_states(change, line):
    assert any(each.startswith(line) for each in status_text.as_lines({**STATUS, **change}))


def test_nothing_is_said_of_workers_where_none_was_lost():
    fast = {**STATUS["pools"]["fast"], "lost_workers": 0, "hung_workers": 0}
    assert "lost" not in "\n".join(status_text.as_lines({**STATUS, "pools": {"fast": fast}}))
