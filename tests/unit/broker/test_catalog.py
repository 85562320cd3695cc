"""The catalog: found by name, listed in pages that fit a frame."""

from typing import NamedTuple

import pytest

from broker.engine.config import ModelConfig
from broker.engine.signature import declare
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire import messages
from ringbuf.wire.framing import MAX_PAYLOAD_BYTES
from ringbuf.wire.messages import encode_frame
from tests.unit.broker.parts import Talk, build_context, catalog_of


class Entry(NamedTuple):
    """What a catalog looks at: a loaded model without its weights."""

    name: str
    signature: messages.Signature
    version: str = "1"
    max_batch: int = 8
    config: ModelConfig = ModelConfig(name="", source="")


SMALL = declare({"x": "F32[4]"}, {"y": "F32[4]"})


def wide(count, name_chars=100):
    """A signature of `count` inputs with long names."""
    return declare({f"{index:03}" + "x" * name_chars: "F32[batch,4]" for index in range(count)}, {"y": "F32[batch]"})


def pages_of(catalog, store=None):
    """Every page, by LIST to a session; with the bytes of each frame's payload."""
    talk = Talk(build_context(catalog, store))
    page, pages = 0, []
    while page is not None:
        (answer,) = talk.say(messages.List(1, page))
        pages.append((answer.models, len(encode_frame(answer)) - 4))
        page = answer.next_page
    return pages


def test_find(catalog):
    family = catalog.find("twice", "default")
    assert family.usual.name == "twice"
    assert family.find("1") is family.usual
    for find, code, text in [
        (lambda: catalog.find("other", "default"), Code.UNKNOWN_MODEL, "twice, sum, open"),
        (lambda: catalog.find("twice", "fast"), Code.WRONG_POOL, "the pool 'default'"),
        (lambda: family.find("2"), Code.UNKNOWN_VERSION, "the versions 1"),
    ]:
        with pytest.raises(RingbrokerError) as caught:
            find()
        assert caught.value.code == code
        assert text in caught.value.text


@pytest.mark.parametrize("signature", [SMALL, wide(32), wide(7, 10)], ids=["small", "wide", "middle"])
@pytest.mark.parametrize("count", [0, 1, 9, 3000])
def test_pages_fit_frames_and_lose_no_model(signature, count, store):
    names = [f"model-{number}" for number in range(count)]
    pages = pages_of(catalog_of(Entry(name, signature) for name in names), store)
    assert [model.name for models, _ in pages for model in models] == names
    assert max(size for _, size in pages) <= MAX_PAYLOAD_BYTES
    assert all(models for models, _ in pages[1:])
    assert {(model.versions, model.pool) for models, _ in pages for model in models} <= {(("1",), "default")}
    assert len(pages) > 1 or count < 3000


def test_a_page_past_the_last_has_no_models():
    catalog = catalog_of([Entry("m", SMALL)])
    assert catalog.page(1) == ((), None)
    assert catalog.page(2**53 - 1) == ((), None)


def test_a_signature_too_long_for_a_page_is_refused_at_load():
    shapes = [",".join(f"{'d' * 60}{index * 8 + axis}" for axis in range(8)) for index in range(32)]
    inputs = {f"{index:02}" + "x" * 126: f"F32[{shape}]" for index, shape in enumerate(shapes)}
    long = declare(inputs, {"y": "F32[4]"})
    with pytest.raises(RingbrokerError) as caught:
        catalog_of([Entry("small", SMALL), Entry("long", long)])
    assert (caught.value.code, caught.value.path) == (Code.SIGNATURE_INVALID, "long")
