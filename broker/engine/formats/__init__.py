"""One module per kind of model. Each has `prepare`, which reads it and says what its signature is."""

from broker.engine.formats.detect import prepare

__all__ = ["prepare"]
