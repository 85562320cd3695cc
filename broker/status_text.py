"""What `broker status` tells people: the JSON of `broker.status`, a line for each thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Told = Mapping[str, Any]


def as_lines(told: Told) -> list[str]:
    """The status of a broker; names and numbers only."""
    lines = [_broker(told), _sessions(told), _requests(told)]
    if told["last_reload"]:
        lines.append(_reload(told["last_reload"]))
    for name, pool in told["pools"].items():
        lines += ["", *_pool(name, pool)]
    for name, model in told["models"].items():
        lines += ["", *_model(name, model)]
    return lines


def _broker(told: Told) -> str:
    state = "draining" if told["is_draining"] else "serving" if told["pools"] else "starting"
    loading = ", and another is loading" if told["is_loading"] and told["generation"] else ""
    generation = f"generation {told['generation']}{loading}" if told["generation"] else "no generation yet"
    return f"broker    {state}, {generation}; process {told['pid']}, up {_age(told['uptime_s'])}, on {told['socket']}"


def _sessions(told: Told) -> str:
    waiting = f", {told['waiting_sessions']} waiting" if told["waiting_sessions"] else ""
    resumable = f", {told['resumable_sessions']} to be resumed" if told["resumable_sessions"] else ""
    memory = f"{_bytes(told['segment_bytes'])} of {_bytes(told['max_memory_bytes'])}"
    rings = f"{_count(told['open_rings'], 'ring')}, {memory}"
    return (
        f"sessions  {told['open_sessions']} open{waiting}{resumable}; {rings}; {told['in_flight']} requests in flight"
    )


def _requests(told: Told) -> str:
    errors = ", ".join(f"{count} {name}" for name, count in told["errors"].items())
    return f"requests  {told['requests']} in all; errors: {errors or 'none'}"


def _reload(reload: Told) -> str:
    if "error" in reload:
        return (
            f"reload    failed at {reload['time']}, and what served goes on: error {reload['code']} {reload['error']}"
        )
    return f"reload    generation {reload['generation']} serves since {reload['time']}"


def _pool(name: str, pool: Told) -> Iterator[str]:
    workers, threads = _count(len(pool["workers"]), "worker"), _count(pool["threads"], "thread")
    yield f"pool {name}: {workers}, {threads} each; {', '.join(pool['models'])}"
    if pool["lost_workers"] or pool["hung_workers"]:
        lost, hung = _count(pool["lost_workers"], "worker"), pool["hung_workers"]
        yield f"  {lost} lost, {hung} hung and ended, since the broker started"
    for worker in pool["workers"]:
        busy = f", busy for {worker['busy_s']} s" if worker["busy_s"] else ""
        state = "" if worker["is_serving"] else ", not serving yet"
        sessions, in_flight = _count(worker["sessions"], "session"), f"{worker['in_flight']} in flight"
        yield f"  worker {worker['index']}  process {worker['pid']}: {sessions}, {in_flight}{busy}{state}"


def _model(name: str, model: Told) -> Iterator[str]:
    yield f"model {name}: {_count(model['results'], 'result')}; {model['source']}"
    for version, did in model["versions"].items():
        share = 100 * did["results"] / max(model["results"], 1)
        canary = "" if did["canary_percent"] is None else f"  canary of {did['canary_percent']:g} %"
        yield f"  version {version}  {share:5.1f} %{canary}  {_count(did['results'], 'result')}{_times(did)}"


def _times(did: Told) -> str:
    if not did["results"]:
        return ""
    copied = sum(did["copied"].values())
    batch = f"{did['mean_compute_us']} us a batch of {did['mean_batch_rows']} rows"
    return f": {did['mean_queue_us']} us queued, {batch}" + (f", {_bytes(copied)} copied" if copied else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _bytes(number: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:g} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
