"""One broker for the faults that must not hurt it, and a bystander beside each."""

import pytest

from tests.conftest import running_broker
from tests.faults import leaks
from tests.faults.wire import Bystander, until

MODELS = [f"{name}=tests.faults.models:{name}" for name in ("twice", "slow", "picky", "large")]


@pytest.fixture(scope="package")
def broker():
    with running_broker(*MODELS) as running:
        yield running
        assert running.stop() == 0


@pytest.fixture
def undisturbed(broker):
    """A bystander infers throughout the test; afterwards the broker holds what it held before."""
    with Bystander(broker.socket_path) as bystander:
        until(lambda: not leaks.names(broker))  # the supervisor has heard that the bystander attached
        before = leaks.census(broker)
        yield bystander
        leaks.assert_back_to(before, broker)
    until(lambda: broker.status()["open_sessions"] == 0)  # the bystander's own is not in the next test's census
