"""What the service manager is told, for a systemd unit of `Type=notify`: see sd_notify(3)."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger("broker.notify")

_TIMEOUT_S = 1.0  # the manager reads at once, or never


class Notifier:
    """Sends states to the service manager, where there is one."""

    def __init__(self, address: str | None, serving: str) -> None:
        """`address` is that of the manager's socket: a path, or `@` and an abstract name; `serving` is the status of a
        broker that is ready.
        """
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._serving = serving
        self._is_stopping = False

    @classmethod
    def from_environment(cls, serving: str) -> Notifier:
        """Take `$NOTIFY_SOCKET`, so that no child has it."""
        return cls(os.environ.pop("NOTIFY_SOCKET", None), serving)

    def ready(self, but: str | None = None) -> None:
        """The broker serves, or what served goes on after a reload."""
        self._tell("READY=1", f"{self._serving}; {but}" if but else self._serving)

    def reloading(self, status: str, now_ns: int) -> None:
        """A reload begins; `ready` ends it. `now_ns` is on the monotonic clock."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={now_ns // 1000}", status)

    def stopping(self, status: str) -> None:
        """The broker is on its way out: nothing is told after this."""
        self._tell("STOPPING=1", status)
        self._is_stopping = True

    def _tell(self, state: str, status: str) -> None:
        if not self._address or self._is_stopping:
            return
        text = f"{state}\nSTATUS={' '.join(status.splitlines())}"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_TIMEOUT_S)
                sock.sendto(text.encode(), self._address)
        except OSError as error:
            log.warning("the service manager was not told", extra={"state": state, "error": str(error)})
