"""Connections that ask nothing, as many as the HTTP port holds: a probe is answered nevertheless, and at once."""

import socket

from broker.health import MAX_PROBES
from tests.conftest import START_TIMEOUT_S, running_broker
from tests.faults import leaks

TWICE = "twice=tests.faults.models:twice"


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT_S)


def test_the_oldest_goes_where_one_more_comes():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running_broker(TWICE, "--health-port", str(port)) as broker:
        before = leaks.descriptors(broker.pid)["socket"]
        silent = [connected(port) for _ in range(2 * MAX_PROBES)]
        try:
            with connected(port) as probe:
                probe.sendall(b"GET /readyz HTTP/1.1\r\n\r\n")
                assert b"".join(iter(lambda: probe.recv(65536), b"")).endswith(b"\r\n\r\nready\n")
            assert leaks.descriptors(broker.pid)["socket"] <= before + MAX_PROBES
            assert all(sock.recv(1) == b"" for sock in silent[: MAX_PROBES + 1]), "these made room"
        finally:
            for sock in silent:
                sock.close()
        assert broker.stop() == 0
