"""What `broker status` tells: read from the supervisor's own books and the workers' pages; no worker is asked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from broker.generation import Generation
from broker.stats import (
    BUSY_SINCE_NS,
    DROPPED_REQUESTS,
    IN_FLIGHT,
    REQUESTS,
    SESSIONS,
    Stats,
    errors_as_dict,
    sum_of,
    total,
)
from broker.worker_handle import WorkerHandle

if TYPE_CHECKING:
    from broker.supervisor import Supervisor


def status_of(supervisor: Supervisor, now_ns: int) -> dict[str, Any]:
    """Everything, as JSON. Counters are those since the broker started, models' those of the generation that serves."""
    generation, roster = supervisor.current, supervisor.roster
    generations = supervisor.generations()
    pages = [supervisor.stats, *(page for each in generations for page in _pages(each))]
    return {
        "pid": os.getpid(),
        "socket": supervisor.config.socket_path,
        "uptime_s": round((now_ns - supervisor.began_ns) / 1e9, 1),
        "is_draining": supervisor.is_draining,
        "open_sessions": roster.served,
        "waiting_sessions": supervisor.reception.waiting,
        "resumable_sessions": len(roster.sessions) - roster.served - supervisor.reception.waiting,
        "open_rings": sum(len(session.rings) for session in roster.sessions.values()),
        "segment_bytes": roster.segment_bytes,
        "max_memory_bytes": supervisor.config.max_memory_bytes,
        "in_flight": sum(worker.stats.page[IN_FLIGHT] for each in generations for worker in each.workers),
        "requests": total(pages, REQUESTS),
        "sessions": total(pages, SESSIONS),
        "dropped_requests": total(pages, DROPPED_REQUESTS),
        "errors": errors_as_dict(pages),
        "generation": generation.number if generation else None,
        "is_loading": supervisor.is_loading,
        "last_reload": supervisor.reloads.last,
        "pools": _pools(supervisor, generation, pages, now_ns) if generation else {},
        "models": _models(generation) if generation else {},
    }


def _pages(generation: Generation) -> list[Stats]:
    return [generation.past, *(worker.stats for worker in generation.workers)]


def _pools(supervisor: Supervisor, generation: Generation, pages: Sequence[Stats], now_ns: int) -> dict[str, Any]:
    def told(worker: WorkerHandle) -> dict[str, Any]:
        busy_ns = worker.stats.page[BUSY_SINCE_NS]
        return {
            "pid": worker.pid,
            "index": worker.index,
            "is_serving": worker.is_serving,
            "sessions": sum(1 for _ in supervisor.roster.served_by(worker)),
            "in_flight": worker.stats.page[IN_FLIGHT],
            "busy_s": round((now_ns - busy_ns) / 1e9, 3) if busy_ns else 0.0,
        }

    return {
        pool.name: {
            "models": list(pool.models),
            "threads": pool.threads,
            "lost_workers": sum(page.lost_workers[pool.name] for page in pages),
            "hung_workers": sum(page.hung_workers[pool.name] for page in pages),
            "workers": [told(worker) for worker in generation.workers if worker.pool.name == pool.name],
        }
        for pool in generation.pools
    }


def _models(generation: Generation) -> dict[str, Any]:
    """By name: the usual version's source, and what all of them did; beside it, each version's share."""
    pages = _pages(generation)
    models: dict[str, Any] = {}
    names = dict.fromkeys(loaded.model for loaded in generation.loaded)
    for name in names:
        versions = [(number, each) for number, each in enumerate(generation.loaded) if each.model == name]
        did = {each.version: sum_of(page.of_model(number) for page in pages) for number, each in versions}
        canaries = {each.version: each.canary_percent for _, each in versions}
        usual = versions[0][1]
        models[name] = {
            "version": usual.version,
            "source": usual.source,
            **sum_of(did.values()).as_dict(),
            "versions": {
                version: {**counters.as_dict(), "canary_percent": canaries[version]}
                for version, counters in did.items()
            },
        }
    return models
