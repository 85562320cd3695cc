"""What is said at a start."""

from types import SimpleNamespace

import pytest

from broker import listing
from broker.config import ServeConfig
from broker.control import Loaded
from tests.conformance.reference_models import SOURCES


def start_lines(*loaded):
    return listing.start_lines(SimpleNamespace(config=ServeConfig((), "/run/broker.sock"), loaded=loaded))


@pytest.mark.parametrize(("name", "files"), [("twice", "input.npy"), ("sum", "a=a.npy b=b.npy")])
def test_how_to_call_it_names_every_input(catalog, name, files):
    signature = catalog.families[name].usual.signature
    tensors = {tensor.name: "F32[batch]" for tensor in signature.inputs}
    lines = start_lines(Loaded(name, "1", SOURCES[name], tensors, {}))
    assert f"call it:  broker infer {name} {files} --socket /run/broker.sock" in lines


def test_versions_are_told_where_there_are_several_or_one_has_a_name():
    lines = start_lines(
        Loaded("a", "1", "a.pt2", {}, {}),
        Loaded("b", "1", "b/1/model.pt2", {}, {}),
        Loaded("b", "2", "b/2/model.pt2", {}, {}, 5.0),
        Loaded("c", "may", "c/may/model.pt2", {}, {}),
    )
    assert [line.split("  ")[1] for line in lines[1:5]] == [
        "a",
        "b version 1",
        "b version 2, canary of 5 %",
        "c version may",
    ]
