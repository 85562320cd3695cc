"""The loader's process, from its start to its end.

    python -m broker.loader_process CHANNEL CONFIG LIFELINE NICENESS      the first three are descriptors

Where the models cannot be run in forks of the process that loaded them, it begins anew and lets every worker load for
itself, which costs memory and time, and is said in the log.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from broker import lifeline

logger = logging.getLogger("broker.loader")

_EACH = "--each-worker-loads"


def main() -> None:
    """Run as the supervisor's child."""
    channel_fd, config_fd, lifeline_fd = map(int, sys.argv[1:4])
    lifeline.hold(lifeline_fd)
    for fd in (channel_fd, config_fd, lifeline_fd):
        os.set_inheritable(fd, False)  # a command that a model runs does not get them
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # they are for the supervisor, also where a whole group gets them
    importing = threading.Thread(target=_import_at, args=[int(sys.argv[4])])
    importing.start()
    importing.join()
    _load_and_fork(channel_fd, config_fd, lifeline_fd)


def _import_at(niceness: int) -> None:
    """Import torch and all that needs it, which is most of a reload's work, while others serve beside it.

    Only a thread of its own can be nice for a while: who is nice may not take it back, and workers are to be forked.
    """
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + niceness)
    import broker.loader  # noqa: F401


def _load_and_fork(channel_fd: int, config_fd: int, lifeline_fd: int) -> None:
    import msgspec

    from broker import log
    from broker.config import ServeConfig
    from broker.control import Channel, Failed, socket_of
    from broker.loader import Loader
    from ringbuf.errors import RingbrokerError

    config = msgspec.msgpack.decode(os.pread(config_fd, os.fstat(config_fd).st_size, 0), type=ServeConfig)
    log.configure(config.log_format)
    loader = Loader(Channel(socket_of(channel_fd)), config, lifeline_fd)
    if _EACH in sys.argv:
        loader.run(None)
        return
    try:
        catalog = loader.prepare()
    except RingbrokerError as error:
        loader.channel.send(Failed.of(error))
        sys.exit(1)
    if catalog is not None:
        os.close(config_fd)
        loader.run(catalog)
        return
    logger.warning("the models cannot be run in forks of the process that loaded them: every worker loads its own")
    for fd in (channel_fd, config_fd, lifeline_fd):
        os.set_inheritable(fd, True)
    os.execv(sys.executable, [sys.executable, "-m", "broker.loader_process", *sys.argv[1:5], _EACH])


if __name__ == "__main__":
    main()
