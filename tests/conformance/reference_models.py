"""The models that the scripts of `spec/vectors/sessions.json` talk to, as factories for the broker."""

from dataclasses import dataclass, field


@dataclass
class Model:
    """A callable with its signature, as the broker's factories return it."""

    run: object
    inputs: dict
    outputs: dict
    maxima: dict = field(default_factory=dict)

    def __call__(self, *tensors):
        return self.run(*tensors)


def twice():
    """y = 2 * x."""
    return Model(lambda x: 2 * x, {"x": "F32[batch,4]"}, {"y": "F32[batch,4]"})


def add():
    """y = a + b, `seq` at most 16."""
    sequence = "I64[batch,seq]"
    return Model(lambda a, b: a + b, {"a": sequence, "b": sequence}, {"y": sequence}, {"seq": 16})


def repeat():
    """y = a, `seq` as large as the client says."""
    return Model(lambda a: a, {"a": "I64[batch,seq]"}, {"y": "I64[batch,seq]"})


MAX_BATCH = 8
SOURCES = {
    "twice": f"{__name__}:twice",
    "sum": f"{__name__}:add",
    "open": f"{__name__}:repeat",
}
