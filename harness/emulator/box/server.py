"""The SSH server in front of one box: its own ports, its own host key, key logins only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from harness.emulator.box.container import Container
from harness.emulator.box.disk import BoxDisk
from harness.emulator.box.files import BoxFiles
from harness.emulator.box.session import COPIER, Session
from harness.emulator.box.throttle import STREAM_FAULTS, Throttle
from harness.emulator.scenario import SshFault

WINDOW = 8 << 20
PACKET = 256 << 10
"""Window and packet for what comes in, raised together: either alone caps the rate of a distant client."""

_TURNS_OF_ACCEPTING = 4
"""Turns of the event loop in which asyncio makes a connection of what it has accepted, and one more."""

FaultAt = Callable[[frozenset[str], str, int], SshFault | None]
"""Fault of these kinds that strikes on this route after so many bytes."""


@dataclass(slots=True)
class Traffic:
    """Bytes that went over the wire since they were last booked."""

    to_box: int = 0
    from_box: int = 0


@dataclass(slots=True)
class BoxServer:
    """The listeners of one box; ``route`` tells a direct connection from one through the proxy."""

    container: Container
    disk: BoxDisk
    fault: FaultAt
    traffic: Traffic = field(default_factory=Traffic)
    _listeners: list[asyncssh.SSHAcceptor] = field(default_factory=list)
    _connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)

    async def listen(self, host_key: Path, ports: dict[str, int]) -> None:
        """Open a listener a route; raises OSError when a port is taken."""
        for route, port in ports.items():
            self._listeners.append(await self._open(host_key, route, port))

    async def close(self) -> None:
        """Close the listeners and cut every connection, one that is just being accepted as well."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            for door in listener.sockets:
                loop.remove_reader(door.fileno())
        for _ in range(_TURNS_OF_ACCEPTING):  # asyncio loses what it accepts for a listener that is closed meanwhile
            await asyncio.sleep(0)
        for listener in self._listeners:
            listener.close()
        for connection in tuple(self._connections):
            connection.abort()
        for listener in self._listeners:
            await listener.wait_closed()
        self._listeners.clear()

    async def _open(self, host_key: Path, route: str, port: int) -> asyncssh.SSHAcceptor:
        def throttle() -> Throttle:
            return Throttle(lambda sent: self.fault(STREAM_FAULTS, route, sent), self._sent)

        return await asyncssh.listen(
            "127.0.0.1",
            port,
            server_factory=lambda: _Login(self, route),
            server_host_keys=[str(host_key)],
            process_factory=Session(self.container, throttle, self._received),
            sftp_factory=lambda chan: BoxFiles(chan, self.disk, throttle(), self._received),
            allow_scp=True,
            encoding=None,
            line_editor=False,
            window=WINDOW,
            max_pktsize=PACKET,
            reuse_address=True,
            login_timeout=30,
        )

    def _sent(self, count: int) -> None:
        self.traffic.from_box += count

    def _received(self, count: int) -> None:
        self.traffic.to_box += count


class _Login(asyncssh.SSHServer):
    """Login check of one connection. Inheritance is how asyncssh takes it."""

    def __init__(self, server: BoxServer, route: str) -> None:
        self._server = server
        self._route = route
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server._connections.add(conn)  # noqa: SLF001  # the login check is the server's own
        if self._server.fault(frozenset({"refuse"}), self._route, 0) is not None:
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._connection is not None:
            self._server._connections.discard(self._connection)  # noqa: SLF001  # the door is the server's own

    def begin_auth(self, username: str) -> bool:
        del username
        fault = self._server.fault(frozenset({"banner"}), self._route, 0)
        if fault is not None and self._connection is not None:
            self._connection.send_auth_banner(fault.text)
        return True

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        """Forward what the client sends (-L, -D): a box sees this machine's network."""
        del dest_host, dest_port, orig_host, orig_port
        return True

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        """Listen for the client (-R), on the loopback address only, as sshd does by itself."""
        del listen_port
        return listen_host in {"localhost", "127.0.0.1", "::1"}

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        if username not in {"root", COPIER} or self._server.fault(frozenset({"deny"}), self._route, 0) is not None:
            return False
        return key.public_data in _authorized(self._server.container.layout.authorized_keys)


def _authorized(file: Path) -> set[bytes]:
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return set()
    keys = set()
    for line in lines[:1000]:
        try:
            keys.add(asyncssh.import_public_key(line).public_data)
        except asyncssh.KeyImportError:
            continue
    return keys
