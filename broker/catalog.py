"""The catalog: the models that a broker serves, to be found by name, and listed page by page (spec section 5)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from broker.engine.models import Model
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire import messages

POOL = "default"
PAGE_BYTES = 32 * 1024  # half a frame: room for everything around the models


class Catalog:
    """Every served model by its name."""

    def __init__(self, models: Iterable[Model]) -> None:
        self.models = {model.name: model for model in models}
        entries = [
            messages.Model(model.name, (model.version,), POOL, model.signature) for model in self.models.values()
        ]
        self._pages = _paged(entries)

    def find(self, name: str, version: str | None) -> Model:
        """Return the model; raises `RingbrokerError` UNKNOWN_MODEL or UNKNOWN_VERSION."""
        model = self.models.get(name)
        if model is None:
            text = f"the broker serves no model of that name; it serves {', '.join(self.models)}"
            raise RingbrokerError(Code.UNKNOWN_MODEL, text, "model")
        if version is not None and version != model.version:
            raise RingbrokerError(Code.UNKNOWN_VERSION, f"the model has the version {model.version}", "version")
        return model

    def page(self, number: int) -> tuple[tuple[messages.Model, ...], int | None]:
        """Return the models of page `number` and the number of the next, None after the last (no models on one past
        it).
        """
        models = self._pages[number] if number < len(self._pages) else ()
        return models, number + 1 if number + 1 < len(self._pages) else None


def _paged(entries: list[messages.Model]) -> list[tuple[messages.Model, ...]]:
    """Cut the list into pages that fit a frame; raises `RingbrokerError` SIGNATURE_INVALID for a model that alone
    does not.
    """
    pages: list[list[messages.Model]] = [[]]
    room = PAGE_BYTES
    for entry in entries:
        size = len(msgspec.msgpack.encode(entry))
        if size > PAGE_BYTES:
            raise RingbrokerError(Code.SIGNATURE_INVALID, "the signature is too long to be listed", entry.name)
        if size > room:
            pages.append([])
            room = PAGE_BYTES
        pages[-1].append(entry)
        room -= size
    return [tuple(page) for page in pages]
