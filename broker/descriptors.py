"""Descriptors: how many this process and its children may open, and how many a broker with all its clients takes.

Every ring takes one in the supervisor and one in its worker, and every connection one in its worker. The usual soft
limit, 1024, is what `select` can count to, and too few; nothing here uses `select` on what a client can make many of.
"""

from __future__ import annotations

import logging
import resource
from contextlib import suppress

from broker.config import ServeConfig

log = logging.getLogger("broker.descriptors")

_OWN = 128  # listening sockets, probes, channels


def provide(config: ServeConfig) -> None:
    """Raise the soft limit to the hard one; say what it is, and where it is less than the clients may take."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # where the system's limit is below the hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    log.info("descriptors that each process may open", extra={"limit": limit})
    if limit < (needed := needed_by(config)):
        log.warning(
            "so many connections and rings have too few descriptors: some will be refused or wait",
            extra={
                "limit": limit,
                "needed": needed,
                "max_connections": config.max_connections,
                "max_rings": config.max_rings,
            },
        )


def needed_by(config: ServeConfig) -> int:
    """The most that one process takes when every connection has all its rings."""
    return config.max_connections * (1 + config.max_rings) + _OWN
