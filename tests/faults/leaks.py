"""A census of what a broker holds for its clients: open descriptors, mapped segments, names in /dev/shm."""

import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from ringbuf.segment import SegmentStore

WAIT_S = 30.0


def names(broker):
    """The names of the broker's segments."""
    return sorted(path.name for path in Path("/dev/shm").glob(SegmentStore(broker.socket_path).prefix + "*"))


def maps(pid):
    """The segments that the process has mapped, those without a name among them."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return sorted({line.split(maxsplit=5)[5] for line in lines if "/dev/shm/ringbroker-" in line})


def descriptors(pid):
    """How many descriptors of each kind the process has open."""
    kinds = Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            kinds[str(link.readlink()).partition(":[")[0]] += 1
    return kinds


def census(broker):
    return {"descriptors": descriptors(broker.pid), "maps": maps(broker.pid), "names": names(broker)}


def assert_back_to(before, broker):
    """Poll until the broker holds what it held before."""
    deadline = time.monotonic() + WAIT_S
    while (now := census(broker)) != before:
        assert time.monotonic() < deadline, f"left behind: {now}, before: {before}"
        time.sleep(0.05)
