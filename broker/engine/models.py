"""Models: from what the operator named to something that runs (DESIGN section 6).

`prepare` reads it, `bind` makes it ready, trial runs find out what it may be given (`broker.engine.proof`). A model
whose outputs are not what its signature says is refused here and not at the first request; one whose batch axis is none
is served one row at a time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from broker.engine import formats, repository
from broker.engine import signature as signatures
from broker.engine.config import ModelConfig, check
from broker.engine.failure import told
from broker.engine.gather import Staging
from broker.engine.plan import Plan, Prepared, PrivateInputs, Unbound
from broker.engine.probe import Probe
from broker.engine.proof import Proof, Trial
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature

log = logging.getLogger("broker.engine")

# Every tensor that lives in this thread is made for inference: no autograd bookkeeping on any request.
inference_mode = torch.inference_mode


@dataclass(frozen=True)
class Model:
    """One served model, bound to this process."""

    config: ModelConfig
    signature: Signature
    plan: Plan
    proof: Proof
    prepared: Prepared
    probe: Probe
    number: int = 0
    """Its place among the counters of its generation."""

    @cached_property
    def name(self) -> str:
        """What clients call it."""
        return self.config.name

    @cached_property
    def version(self) -> str:
        """What RESULT says answered."""
        return self.config.version

    @cached_property
    def max_batch(self) -> int:
        """The most rows of one forward call."""
        return self.proof.max_batch

    @cached_property
    def max_queue_delay_ns(self) -> int:
        """How long a request may wait for others to run with; nothing to wait for where rows run alone."""
        return self.config.max_queue_delay_us * 1000 if self.max_batch > 1 else 0

    @cached_property
    def gathers(self) -> bool:
        """Whether rows that are not neighbours are copied together. Not with open dims: their planes differ in size."""
        return self.config.gather == "always" and self.max_batch > 1 and not signatures.open_dims(self.signature)

    @cached_property
    def staging(self) -> Staging:
        """Where rows are gathered."""
        return Staging(self.signature)

    @cached_property
    def uniform(self) -> tuple[int, ...]:
        """The indices of the inputs that are one value for all rows of a batch."""
        names = self.config.uniform
        return tuple(index for index, tensor in enumerate(self.signature.inputs) if tensor.name in names)

    def without_plan(self) -> Model:
        """This model as it can be forked: without what would not survive that, until `bound` makes it again."""
        return self if self.prepared.survives_fork else replace(self, plan=Unbound(self.plan))

    def bound(self, threads: int) -> Model:
        """This model in a worker, warm, with `threads` threads inside an op."""
        torch.set_num_threads(threads)
        model = self
        if not self.prepared.survives_fork:
            model = replace(self, plan=_bind(self.config, self.prepared, self.probe, threads))
        with torch.inference_mode():
            Trial(model.plan, self.prepared, self.probe, self.config).warm()
        model.plan.ledger.reset()
        return model


def load(config: ModelConfig, *, threads: int, number: int = 0) -> Model:
    """Load the model, try it out, and say what is worth knowing in the log.

    Raises `RingbrokerError`, with a code that spec/errors.json marks `load`.
    """
    torch.set_num_threads(threads)  # before anything runs: more threads than were asked for would outlive that
    config = repository.resolve(config)
    check(config)
    prepared = formats.prepare(config)
    _check_uniform(config, prepared.signature)
    probe = Probe(prepared.signature, config, prepared.minima, prepared.ranges)
    _check_row(probe, config.name)
    plan = _bind(config, prepared, probe, threads)
    with torch.inference_mode():
        proof = Trial(plan, prepared, probe, config).prove()
    plan.ledger.reset()
    model = Model(config, prepared.signature, plan, proof, prepared, probe, number)
    _require_zero_copy(model)
    if proof.max_batch == 1 and (config.max_batch > 1 or proof.state is not None):
        log.warning("served one row at a time", extra={"model": config.name, "because": proof.batch})
    return model


def _bind(config: ModelConfig, prepared: Prepared, probe: Probe, threads: int) -> Plan:
    plan = prepared.bind(threads, "cpu", probe)
    return PrivateInputs(plan) if config.private_inputs else plan


def _check_uniform(config: ModelConfig, signature: Signature) -> None:
    for tensor in signature.inputs:
        if tensor.name in config.uniform and tensor.batch_axis is not None:
            text = "it has a batch axis, so every row has its own value, and it cannot be uniform"
            raise RingbrokerError(Code.CONFIG_INVALID, text, f"{config.name}.{tensor.name}")


def _check_row(probe: Probe, name: str) -> None:
    """Refuse tensors of which there is no room for a row, before anything is tried with them."""
    try:
        for sizes in probe.sizes():
            probe.inputs(1, sizes)
            probe.outputs(1, sizes)
    except (RuntimeError, MemoryError) as error:
        text = f"one row of its inputs and outputs cannot be made: {told(error)}"
        raise RingbrokerError(Code.SIGNATURE_INVALID, text, name) from error


def _require_zero_copy(model: Model) -> None:
    if not model.config.require_zero_copy:
        return
    for tensor, route in zip(model.signature.outputs, model.plan.routes, strict=True):
        if not route.in_place:
            path = f"{model.name}.{tensor.name}"
            raise RingbrokerError(Code.ZERO_COPY_IMPOSSIBLE, f"the result is copied: {route.why}", path)
    copied = {
        "private and uniform inputs are copied": model.config.private_inputs or model.config.uniform,
        "rows that are no neighbours are copied together: gather is 'always'": model.gathers,
        "its results are copied where rows lie apart; with max_batch 1 they never do": model.proof.copies_apart,
    }
    for text, is_so in copied.items():
        if is_so:
            raise RingbrokerError(Code.ZERO_COPY_IMPOSSIBLE, text, model.name)
