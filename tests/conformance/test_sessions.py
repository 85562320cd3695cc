"""Every script of `spec/vectors/sessions.json`, over a real socket, against a real broker process."""

import pytest

from broker.engine import models
from broker.engine.config import ModelConfig
from tests.conformance import reference_models
from tests.conformance.script import Player
from tests.conformance.vectors import load
from tests.conftest import running_broker

SESSIONS = load("vectors/sessions.json")


@pytest.fixture(scope="module")
def socket_path():
    models = [f"{name}={source}" for name, source in reference_models.ALL_SOURCES.items()]
    uniform = [f"--uniform={model}/{name}" for model, names in reference_models.UNIFORM.items() for name in names]
    with running_broker(*models, *uniform, "--max-batch", str(reference_models.MAX_BATCH)) as broker:
        yield broker.socket_path


@pytest.mark.parametrize("script", SESSIONS["scripts"], ids=lambda script: script["name"])
def test_script(socket_path, script):
    with Player(socket_path) as player:
        player.play(script["steps"])


@pytest.mark.parametrize("name", reference_models.ALL_SOURCES)
def test_reference_models_are_what_the_scripts_suppose(name):
    config = ModelConfig(
        name=name,
        source=reference_models.ALL_SOURCES[name],
        max_batch=reference_models.MAX_BATCH,
        uniform=reference_models.UNIFORM.get(name, frozenset()),
    )
    model = models.load(config, threads=1)
    said = SESSIONS["models"][name]
    assert spell_signature(model.signature) == {key: said[key] for key in ("inputs", "outputs", "dims")}
    assert config.uniform == set(said.get("uniform", ()))
    assert (model.version, model.max_batch) == ("1", 1 if name == "found" else 8)


def test_every_reference_model_is_served():
    assert set(SESSIONS["models"]) == set(reference_models.ALL_SOURCES)


def spell_signature(signature):
    """A signature as `sessions.json` writes it: numbers as numbers."""
    tensors = {
        side: [
            [tensor.name, tensor.dtype, list(tensor.shape), tensor.batch_axis] for tensor in getattr(signature, side)
        ]
        for side in ("inputs", "outputs")
    }
    return {**tensors, "dims": dict(signature.dims)}
