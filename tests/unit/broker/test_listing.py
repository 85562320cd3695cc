"""What is said at a start."""

from types import SimpleNamespace

import pytest

from broker import listing
from broker.config import ServeConfig
from broker.control import Loaded
from tests.conformance.reference_models import SOURCES


@pytest.mark.parametrize(("name", "files"), [("twice", "input.npy"), ("sum", "a=a.npy b=b.npy")])
def test_how_to_call_it_names_every_input(catalog, name, files):
    signature = catalog.families[name].usual.signature
    tensors = {tensor.name: "F32[batch]" for tensor in signature.inputs}
    loaded = [Loaded(name, "1", SOURCES[name], tensors, {})]
    lines = listing.start_lines(SimpleNamespace(config=ServeConfig((), "/run/broker.sock"), loaded=loaded))
    assert f"call it:  broker infer {name} {files} --socket /run/broker.sock" in lines
