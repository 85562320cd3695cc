"""Parts of the broker that are dear to make."""

import pytest

from ringbuf.segment import SegmentStore
from tests.unit.broker import parts


@pytest.fixture(scope="session")
def catalog():
    """The reference models: `twice`, `sum` and `open`."""
    return parts.catalog_of(parts.load_models())


@pytest.fixture
def store(tmp_path):
    """Segments under names of this test's own; none may be left."""
    store = SegmentStore(str(tmp_path / "broker.sock"))
    yield store
    assert store.sweep() == 0, "a segment's name was left behind"


@pytest.fixture
def context(catalog, store):
    return parts.build_context(catalog, store)
