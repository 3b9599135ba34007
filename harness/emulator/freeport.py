"""A port of this machine for a server that may go down and come back on it."""

from __future__ import annotations

import socket

from harness.core.errors import BadInput
from harness.core.ids import new_nonce

HOST = "127.0.0.1"
FIRST_PORT, PORTS = 20_000, 12_000


def free_port() -> int:
    """A loopback port that nothing uses now, below the range from which systems give ports to outgoing connections.

    It is to stay free while its server is down (Linux gives out 32768-60999, macOS and Windows 49152-65535).
    """
    for _ in range(200):
        port = FIRST_PORT + int(new_nonce(), 16) % PORTS
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise BadInput("no loopback port is free", remedy="End programs that listen on ports 20000 to 31999.")
