"""What a start prints; what `broker models` prints is in test_cli."""

import pytest

from broker.catalog import Catalog
from broker.listing import start_lines


@pytest.mark.parametrize(("name", "files"), [("twice", "input.npy"), ("sum", "a=a.npy b=b.npy")])
def test_how_to_call_it_names_every_input(catalog, name, files):
    lines = start_lines(Catalog([catalog.models[name]]), "/run/broker.sock")
    assert f"call it:  broker infer {name} {files} --socket /run/broker.sock" in lines
