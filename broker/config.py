"""What an operator can set, with the reason for each default."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field

from broker import ram
from broker.cpus import usable_cpus
from broker.engine.config import ModelConfig

DEFAULT_POOL = "default"

# "auto": what a client does between two requests of a closed loop is shorter; a longer spin buys little.
AUTO_SPIN_US = 100


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """Models that share workers, and wait for no other pool's."""

    name: str
    models: tuple[str, ...] = ()
    """By name. A model that no pool names is in the pool `default`."""
    workers: int = 1
    """Processes that run these models, with the weights in common."""
    threads: int | None = None
    """Threads inside an op, in each worker; None: the CPU quota, divided by the workers of all pools."""


@dataclass(frozen=True)
class ServeConfig:
    """One `broker serve`."""

    models: tuple[ModelConfig, ...]
    socket_path: str
    pools: tuple[PoolConfig, ...] = ()
    workers: int = 1
    """Of a pool that says nothing else."""
    threads: int | None = None
    """Likewise."""
    default_slots: int = 64
    """Slots of a ring whose client leaves it to the broker: as many requests in flight as one client usually has."""
    spin: str = "auto"
    """How long to spin after traffic: `off`, microseconds, or `auto`: 100 us where there are more CPUs than workers."""
    max_ring_bytes: int = 2**30
    max_memory_bytes: int = field(default_factory=lambda: ram.usable_bytes() // 2)
    """Of all rings together: half of what the broker may use, as Linux gives /dev/shm. Memory that has no name is
    bounded by nothing else, and a broker that takes more than its container has is killed."""
    max_slots: int = 4096
    """Views and descriptors of every slot and plane are made when a ring opens, 5 us each: 40 ms for two planes."""
    max_rings: int = 64
    max_connections: int = 256
    max_execution_s: float = 60.0
    """How long a model may run before its worker is ended: a forward that long is one that hangs."""
    max_load_s: float = 600.0
    """How long all models may take to load and to be tried: one that hangs would hold up every reload after it."""
    resume_grace_s: float = 10.0
    """How long a session whose worker was lost waits to be resumed."""
    drain_grace_s: float = 25.0
    """How long SIGTERM leaves clients to finish: less than the 30 s after which Kubernetes kills a pod."""
    health_port: int | None = None
    """Of 127.0.0.1, where HTTP probes are answered."""
    log_format: str = "text"
    watch: bool = False
    """Whether to reload when a model or the configuration's file is replaced."""
    repository: str | None = None
    """The folder that models were found in."""
    config_path: str | None = None
    """The configuration's file."""

    @property
    def largest_ring_bytes(self) -> int:
        """What a ring may have where there is no other."""
        return min(self.max_ring_bytes, self.max_memory_bytes)

    def all_pools(self) -> tuple[PoolConfig, ...]:
        """Every pool with all that it says: its models, its workers, and their threads."""
        named = {model for pool in self.pools for model in pool.models}
        rest = tuple(model.name for model in self.models if model.name not in named)
        pools = list(self.pools)
        if rest or not pools:
            default = next((pool for pool in pools if pool.name == DEFAULT_POOL), None)
            if default is not None:
                pools.remove(default)
            told = default or PoolConfig(DEFAULT_POOL, workers=self.workers, threads=self.threads)
            pools.append(PoolConfig(DEFAULT_POOL, (*told.models, *rest), told.workers, told.threads))
        threads = self.threads or max(1, usable_cpus() // sum(pool.workers for pool in pools))
        return tuple(PoolConfig(pool.name, pool.models, pool.workers, pool.threads or threads) for pool in pools)

    def spin_ns(self) -> int:
        """The spin in nanoseconds; raises ValueError for a setting that is not `auto`, `off` or a time."""
        if self.spin == "off":
            return 0
        if self.spin == "auto":
            workers = sum(pool.workers for pool in self.all_pools())
            return AUTO_SPIN_US * 1000 if usable_cpus() > workers else 0
        spin_us = float(self.spin)
        if not 0 <= spin_us < math.inf:  # nor not-a-number
            raise ValueError(self.spin)
        return int(spin_us * 1000)


def prepare_runtimes() -> None:
    """Set what torch's libraries read when they are loaded; call it before torch is imported.

    OpenMP's threads spin for milliseconds between parallel ops, and take the CPUs from the very clients that wait for
    an answer: with 2 threads on 2 busy CPUs the demo's round trip was 3.7 ms, and is 61 us with this bound of some
    microseconds (docs/decisions/0008). oneDNN keeps a compiled primitive for every shape it has seen, 1024 of them:
    a model that sees many shapes grows without an end in sight. An operator who has set these knows better.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
