"""What is asked of the broker when a model is opened, and what its rings tell about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ringbroker import arguments
from ringbroker.rings import Rings
from ringbuf.wire import messages
from ringbuf.wire.messages import Plane, Signature

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Listing(Generic[C]):
    """What the broker serves, as one of its workers told it; another one may be of another generation."""

    connection: C
    models: list[messages.Model]


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """The arguments of `Client.open`; `of` checks them."""

    model: str
    version: str | None
    slots: int
    maxima: dict[str, int]
    repost: bool

    @classmethod
    def of(
        cls, model: str, version: str | None, slots: int, maxima: Mapping[str, int] | None, repost: bool
    ) -> OpenRequest:
        """Check them; raises TypeError, ValueError."""
        return cls(
            arguments.name("model", model),
            None if version is None else arguments.name("version", version),
            arguments.count("slots", slots),
            {} if maxima is None else arguments.sizes("maxima", maxima),
            repost,
        )

    def message(self, number: int) -> messages.Open:
        """The OPEN with this id."""
        return messages.Open(number, self.model, self.version, self.slots, self.maxima, messages.NOTHING)

    def find(self, models: Sequence[messages.Model]) -> tuple[str | None, Signature]:
        """The model's pool and signature; of one that is not listed, nothing: OPEN will say so."""
        for model in models:
            if model.name == self.model:
                return model.pool, model.signature
        return None, Signature((), (), {})

    def may_repost(self, ring: messages.Ring) -> bool:
        """Whether a lost request of this ring may be sent again."""
        return self.repost and not ring.options.stateful


class Facts:
    """What the rings of a model tell; the base of the blocking `Model` and the asyncio one."""

    _rings: Rings[Any, Any]

    @property
    def version(self) -> str:
        """The version that the ring was opened with; a `Result` says which one answered."""
        return self._rings.all[0].info.version

    @property
    def slots(self) -> int:
        """How many rows can be leased at a time, on all connections."""
        return sum(ring.info.slots for ring in self._rings.all)

    @property
    def max_rows(self) -> int:
        """The most rows of one lease."""
        return self._rings.all[0].info.max_rows

    @property
    def signature(self) -> Signature:
        """The model's `inputs` and `outputs`, and `dims`: the maximum of each dynamic dim, None where it has none.

        An input or output has a `name`, a `dtype`, a `shape` with dynamic dims by name, and a `batch_axis` or None.
        """
        return self._rings.all[0].signature

    @property
    def inputs(self) -> dict[str, Plane]:
        """The input planes by name, in the signature's order: `dtype`, and `sample`, the shape of one row at the ring's
        maxima.
        """
        return {plane.name: plane for plane in self._rings.all[0].planes.inputs}

    @property
    def outputs(self) -> dict[str, Plane]:
        """The output planes, likewise."""
        return {plane.name: plane for plane in self._rings.all[0].planes.outputs}
