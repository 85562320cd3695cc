"""The checks of an INFER: each one, and their order, which is the spec's."""

import msgspec
import pytest

from broker import validation
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire import messages
from tests.unit.broker.parts import infer, open_message, open_ring, told

LIMITS = messages.Limits(65536, 2**20, 64, 4)


def check(ring, asked):
    """The form that the checks find, of the ring that they were given."""
    found, form = validation.check(ring, asked)
    assert found is ring
    return form


@pytest.fixture
def ring(catalog, store):
    """A ring of `sum`: two inputs `I64[batch,seq]`, seq at most 6 here."""
    ask = open_message(1, "sum", slots=16, maxima={"seq": 6})
    return open_ring(catalog, store, ask, LIMITS)


@pytest.fixture
def ask(ring):
    """A function: a valid INFER with some of its fields changed."""

    def ask(slot=2, rows=3, samples=None, **changes):
        return msgspec.structs.replace(infer(told(ring), 1, slot, rows, samples=samples), **changes)

    return ask


def refusal(ring, asked):
    with pytest.raises(RingbrokerError) as caught:
        check(ring, asked)
    return caught.value.code, caught.value.path


def changed(descriptors, index, **changes):
    """Descriptors, one of them with another offset, shape or dtype."""
    names = ("offset", "shape", "dtype")
    made = [list(descriptor) for descriptor in descriptors]
    for name, value in changes.items():
        made[index][names.index(name)] = value
    return tuple(map(tuple, made))


def test_full_rows(ring, ask):
    assert check(ring, ask()) is None
    assert check(ring, ask(slot=8, rows=8)) is None
    assert check(ring, ask(version="1")) is None


def test_short_rows_say_the_outputs_shape(ring, ask):
    form = check(ring, ask(samples=[(2,), (2,)]))
    assert form.inputs == ((2,), (2,))
    assert form.outputs == ((2,),)


def outputs_of(ring, slot=2, rows=3):
    return tuple((p.offset + slot * p.stride, (rows, *p.sample), p.dtype) for p in ring.out_planes)


def test_outputs_may_be_told(ring, ask):
    assert check(ring, ask(outputs=outputs_of(ring))) is None
    assert check(ring, ask(samples=[(2,), (2,)], outputs=outputs_of(ring))).outputs == ((2,),)


def test_the_ring(ring, ask):
    asked = ask()
    assert refusal(None, asked) == (Code.UNKNOWN_RING, "ring")
    ring.attached = False
    assert refusal(ring, asked) == (Code.RING_NOT_ATTACHED, "ring")


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"dtype": "F32"}, Code.WRONG_DTYPE, "inputs[1].dtype"),
        ({"dtype": "X"}, Code.WRONG_DTYPE, "inputs[1].dtype"),
        ({"shape": (3,)}, Code.WRONG_RANK, "inputs[1].shape"),
        ({"shape": ()}, Code.WRONG_RANK, "inputs[1].shape"),
        ({"shape": (3, 6, 1)}, Code.WRONG_RANK, "inputs[1].shape"),
        ({"shape": (2, 6)}, Code.WRONG_DIM, "inputs[1].shape[0]"),
        ({"shape": (3, 0)}, Code.WRONG_DIM, "inputs[1].shape[1]"),
        ({"shape": (3, 7)}, Code.WRONG_DIM, "inputs[1].shape[1]"),
        ({"shape": (3, 2**53 - 1)}, Code.WRONG_DIM, "inputs[1].shape[1]"),
        ({"shape": (3, 5)}, Code.WRONG_DIM, "inputs[1].shape[1]"),  # the first input has 6
        ({"offset": 0}, Code.WRONG_OFFSET, "inputs[1].offset"),
        ({"offset": 4096 + 2 * 48}, Code.WRONG_OFFSET, "inputs[1].offset"),  # the other plane's
        ({"offset": 2**53 - 1}, Code.WRONG_OFFSET, "inputs[1].offset"),
    ],
)
def test_inputs(ring, ask, change, code, path):
    assert refusal(ring, ask(inputs=changed(ask().inputs, 1, **change))) == (code, path)


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"dtype": "F32"}, Code.WRONG_DTYPE, "outputs[0].dtype"),
        ({"shape": (3,)}, Code.WRONG_RANK, "outputs[0].shape"),
        ({"shape": (1, 6)}, Code.WRONG_DIM, "outputs[0].shape[0]"),
        ({"shape": (3, 5)}, Code.WRONG_DIM, "outputs[0].shape[1]"),
        ({"offset": 8}, Code.WRONG_OFFSET, "outputs[0].offset"),
    ],
)
def test_outputs(ring, ask, change, code, path):
    asked = ask(outputs=changed(outputs_of(ring), 0, **change))
    assert refusal(ring, asked) == (code, path)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_counts(ring, ask, count):
    assert refusal(ring, ask(inputs=(ask().inputs * 2)[:count])) == (Code.WRONG_TENSOR_COUNT, "inputs")
    if count != 1:
        assert refusal(ring, ask(outputs=(outputs_of(ring) * 3)[:count])) == (Code.WRONG_TENSOR_COUNT, "outputs")


def test_the_checks_come_in_the_order_of_the_spec(ring, ask):
    """Everything is wrong at first; one thing after another is put right."""
    right = ask().inputs
    inputs = changed(right, 0, dtype="F32", shape=(9,), offset=1)
    asked = ask(rows=9, slot=15, version="2", inputs=inputs[:1], outputs=())
    ring.attached = False
    steps = [
        (Code.RING_NOT_ATTACHED, lambda: setattr(ring, "attached", True)),
        (Code.UNKNOWN_VERSION, lambda: setattr(asked, "version", None)),
        (Code.TOO_MANY_ROWS, lambda: setattr(asked, "rows", 3)),
        (Code.ROWS_OUT_OF_RANGE, lambda: setattr(asked, "slot", 2)),
        (Code.WRONG_TENSOR_COUNT, lambda: setattr(asked, "inputs", inputs)),
        (Code.WRONG_DTYPE, lambda: setattr(asked, "inputs", changed(inputs, 0, dtype="I64"))),
        (Code.WRONG_RANK, lambda: setattr(asked, "inputs", changed(asked.inputs, 0, shape=(9, 9)))),
        (Code.WRONG_DIM, lambda: setattr(asked, "inputs", changed(asked.inputs, 0, shape=(3, 6)))),
        (Code.WRONG_OFFSET, lambda: setattr(asked, "inputs", right)),
        (Code.WRONG_TENSOR_COUNT, lambda: setattr(asked, "outputs", outputs_of(ring))),
    ]
    for code, put_right in steps:
        assert refusal(ring, asked)[0] == code
        put_right()
    assert check(ring, asked) is None


def test_slots_at_the_edge(ring, ask):
    assert refusal(ring, ask(slot=14)) == (Code.ROWS_OUT_OF_RANGE, "slot")
    assert refusal(ring, ask(slot=2**53 - 1)) == (Code.ROWS_OUT_OF_RANGE, "slot")
    assert refusal(ring, ask(rows=9)) == (Code.TOO_MANY_ROWS, "rows")
    assert refusal(ring, ask(rows=2**53 - 1)) == (Code.TOO_MANY_ROWS, "rows")
    assert check(ring, ask(slot=13)) is None
