"""The catalog: the models that a generation serves, to be found by name, and listed page by page (spec section 5)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from broker.engine.models import Model
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire import messages

PAGE_BYTES = 32 * 1024  # half a frame: room for everything around the models


class Family:
    """The versions of one model, all of one signature, and which of them answers a request that names none."""

    def __init__(self, versions: Iterable[Model]) -> None:
        """Raises `RingbrokerError` SIGNATURE_MISMATCH where they differ in their signatures."""
        self.versions = {model.version: model for model in versions}
        self.usual = next(model for model in self.versions.values() if not model.config.is_candidate)
        self.max_batch = min(model.max_batch for model in self.versions.values())
        self._candidate = next((model for model in self.versions.values() if model.config.is_candidate), None)
        for model in self.versions.values():
            if model.signature != self.usual.signature:
                text = f"its signature is not that of version {self.usual.version}, and one ring must do for both"
                raise RingbrokerError(Code.SIGNATURE_MISMATCH, text, f"{model.name}/{model.version}")
        canary = self.usual.config.canary
        self._share = canary.percent / 100 if canary else 0.0
        self._draw = random.Random(canary.seed if canary else None).random

    def choose(self) -> Model:
        """The version for one request that names none."""
        if self._candidate is not None and self._draw() < self._share:
            return self._candidate
        return self.usual

    def find(self, version: str) -> Model:
        """The version of that name; raises `RingbrokerError` UNKNOWN_VERSION."""
        model = self.versions.get(version)
        if model is None:
            text = f"the model has the versions {', '.join(self.versions)}"
            raise RingbrokerError(Code.UNKNOWN_VERSION, text, "version")
        return model


class Catalog:
    """Every served model by its name."""

    def __init__(self, models: Iterable[Model], pools: Mapping[str, str]) -> None:
        """`pools` says which pool each model belongs to."""
        by_name: dict[str, list[Model]] = {}
        for model in models:
            by_name.setdefault(model.name, []).append(model)
        self.families = {name: Family(versions) for name, versions in by_name.items()}
        self.pools = pools
        self._pages = _paged(
            messages.Model(name, tuple(family.versions), pools[name], family.usual.signature)
            for name, family in self.families.items()
        )

    def models(self) -> Iterator[Model]:
        """Every version of every model."""
        return (model for family in self.families.values() for model in family.versions.values())

    def find(self, name: str, pool: str) -> Family:
        """Return the model; raises `RingbrokerError` UNKNOWN_MODEL, or WRONG_POOL where it is not in `pool`."""
        family = self.families.get(name)
        if family is None:
            served = ", ".join(list(self.families)[:20])
            text = f"the broker serves no model of that name; it serves {served}"
            raise RingbrokerError(Code.UNKNOWN_MODEL, text, "model")
        if self.pools[name] != pool:
            text = f"it is in the pool {self.pools[name]!r}, and this connection in {pool!r}"
            raise RingbrokerError(Code.WRONG_POOL, text, "model")
        return family

    def page(self, number: int) -> tuple[tuple[messages.Model, ...], int | None]:
        """Return the models of page `number` and the number of the next, None after the last (no models on one past
        it).
        """
        models = self._pages[number] if number < len(self._pages) else ()
        return models, number + 1 if number + 1 < len(self._pages) else None


def _paged(entries: Iterable[messages.Model]) -> list[tuple[messages.Model, ...]]:
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
