"""A peer on a socket of its own, and a client of it."""

import gc

import pytest
import ringbroker

from tests.unit.ringbroker.peer import Peer


@pytest.fixture
def peer(tmp_path):
    with Peer(tmp_path / "broker.sock") as peer:
        yield peer


@pytest.fixture
def no_collector():
    """For tests whose signal handler raises: inside a finaliser that would be reported, and go no further."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def client(peer):
    with ringbroker.connect(peer.path, timeout=30) as client:
        yield client


@pytest.fixture
def model(client):
    with client.open("double", slots=8) as model:
        yield model
