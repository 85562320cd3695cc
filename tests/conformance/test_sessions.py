"""Every script of `spec/vectors/sessions.json`, over a real socket, against a real broker process."""

import pytest

from broker.engine import models
from broker.engine.config import ModelConfig
from tests.conformance import reference_models
from tests.conformance.script import Player
from tests.conformance.vectors import load

SESSIONS = load("vectors/sessions.json")


@pytest.fixture(scope="module")
def socket_path(start_broker):
    return start_broker(reference_models.SOURCES, max_batch=reference_models.MAX_BATCH)


@pytest.mark.parametrize("script", SESSIONS["scripts"], ids=lambda script: script["name"])
def test_script(socket_path, script):
    with Player(socket_path) as player:
        player.play(script["steps"])


@pytest.mark.parametrize("name", reference_models.SOURCES)
def test_reference_models_are_what_the_scripts_suppose(name):
    config = ModelConfig(name=name, source=reference_models.SOURCES[name], max_batch=reference_models.MAX_BATCH)
    model = models.load(config, threads=1)
    declared = {key: value for key, value in SESSIONS["models"][name].items() if key != "about"}
    assert spell_signature(model.signature) == declared
    assert (model.version, model.max_batch) == ("1", 8)


def test_every_reference_model_is_served():
    assert set(SESSIONS["models"]) == set(reference_models.SOURCES)


def spell_signature(signature):
    """A signature as `sessions.json` writes it: numbers as numbers."""
    tensors = {
        side: [
            [tensor.name, tensor.dtype, list(tensor.shape), tensor.batch_axis] for tensor in getattr(signature, side)
        ]
        for side in ("inputs", "outputs")
    }
    return {**tensors, "dims": dict(signature.dims)}
