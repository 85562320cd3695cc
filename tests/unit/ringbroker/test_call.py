"""Timeouts as deadlines."""

import time

import pytest
from ringbroker.call import LONGEST_S, deadline_after


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(0, 0), (-3, 0), (2.5, 2.5), (1e30, LONGEST_S), (float("inf"), LONGEST_S)]
)
def test_deadline_after(timeout, seconds):
    before = time.monotonic_ns()
    deadline_ns = deadline_after(timeout)
    assert before <= deadline_ns - int(seconds * 1e9) <= time.monotonic_ns()
