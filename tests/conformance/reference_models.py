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


def found():
    """y = the values of x that are over 0, for one row: `n` is an open dim."""
    return Model(lambda x: x[:, x[0] > 0], {"x": "F32[batch,4]"}, {"y": "F32[batch,n]"}, {"n": 4})


def scaled():
    """y = x * by where keep, else 0; `by` is uniform."""
    sequence = "F32[batch,seq]"
    return Model(
        lambda x, keep, by: x * by * keep,
        {"x": sequence, "keep": "BOOL[batch,seq]", "by": "F32[]"},
        {"y": sequence},
        {"seq": 4},
    )


def turned():
    """y = h + 1, with a batch axis that is not first."""
    return Model(lambda h: h + 1, {"h": "F32[2,batch,3]"}, {"y": "F32[2,batch,3]"})


MAX_BATCH = 8
SOURCES = {
    "twice": f"{__name__}:twice",
    "sum": f"{__name__}:add",
    "open": f"{__name__}:repeat",
}
# Those that the scripts about less usual tensors talk to besides, and what the operator says about them.
TENSOR_SOURCES = {
    "found": f"{__name__}:found",
    "scaled": f"{__name__}:scaled",
    "turned": f"{__name__}:turned",
}
ALL_SOURCES = {**SOURCES, **TENSOR_SOURCES}
UNIFORM = {"scaled": frozenset({"by"})}
