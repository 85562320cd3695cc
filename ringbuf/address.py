"""The address: where broker and clients meet when nothing else is said (spec section 2)."""

from __future__ import annotations

import os


def default_socket_path() -> str:
    """Return `$RINGBROKER_SOCKET`, else a socket in `$XDG_RUNTIME_DIR`, else one of this user's in /tmp."""
    if path := os.environ.get("RINGBROKER_SOCKET"):
        return path
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return f"{runtime}/ringbroker/broker.sock"
    return f"/tmp/ringbroker-{os.geteuid()}/broker.sock"
