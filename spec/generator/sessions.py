"""`sessions.json`: whole conversations with a broker that serves the reference models."""

from typing import Any

from generator.script import REFERENCE_MODELS
from generator.sessions_handshake import handshake_scripts
from generator.sessions_infer import infer_scripts
from generator.sessions_protocol import protocol_scripts
from generator.sessions_ring import ring_scripts
from generator.sessions_tensors import tensor_scripts

COMMENT = "Written by spec/make_vectors.py; the format is told in README.md."


def build_sessions() -> dict[str, Any]:
    return {
        "comment": COMMENT,
        "models": REFERENCE_MODELS,
        "scripts": [*handshake_scripts(), *protocol_scripts(), *ring_scripts(), *infer_scripts(), *tensor_scripts()],
    }
