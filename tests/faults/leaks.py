"""A census of what a broker is made of: processes, threads, open descriptors, mapped segments, names in /dev/shm."""

import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from ringbuf.segment import SegmentStore
from tests.faults.wire import until

WAIT_S = 30.0


def names(broker):
    """The names of the broker's segments."""
    return sorted(path.name for path in Path("/dev/shm").glob(SegmentStore(broker.socket_path).prefix + "*"))


def processes(broker):
    """The supervisor, its loaders and its workers."""
    found, waiting = [], [broker.pid]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        with suppress(FileNotFoundError):
            waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return found


def maps(broker):
    """The segments that the broker's processes have mapped, those without a name among them."""
    mapped = set()
    for pid in processes(broker):
        with suppress(FileNotFoundError):
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
            mapped |= {line.split(maxsplit=5)[5] for line in lines if "ringbroker" in line and "rw-s" in line}
    return sorted(mapped)


def descriptors(pid):
    """How many descriptors of each kind the process has open."""
    kinds = Counter()
    with suppress(FileNotFoundError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                kinds[str(link.readlink()).partition(":[")[0]] += 1
    return kinds


def threads(pid):
    """How many threads the process has."""
    with suppress(FileNotFoundError):
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    return 0


def private_bytes(broker):
    """Anonymous memory of all its processes: not files, not shared memory."""
    total = 0
    for pid in processes(broker):
        with suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(status.partition("Private_Dirty:")[2].split()[0]) * 1024
    return total


def census(broker):
    pids = processes(broker)
    return {
        "processes": len(pids),
        "threads": sum(map(threads, pids)),
        "descriptors": sum(map(descriptors, pids), Counter()),
        "maps": maps(broker),
        "names": names(broker),
    }


def settled(broker):
    """The census when every ring that is being opened has been, and no file is open for a moment."""
    until(lambda: not names(broker))
    seen = [census(broker)]
    until(lambda: seen.append(census(broker)) or seen[-1] == seen[-2])
    return seen[-1]


def assert_back_to(before, broker, since=None):
    """Poll until the broker is what it was before, and say how long that took."""
    began = since or time.monotonic()
    while (now := census(broker)) != before:
        assert time.monotonic() < began + WAIT_S, f"left behind: {now}, before: {before}"
        time.sleep(0.02)
    print(f"\n    nothing left after {(time.monotonic() - began) * 1e3:.0f} ms", end="")
