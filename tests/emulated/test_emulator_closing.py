"""A box's SSH server that closes leaves no connection open, whenever it was made."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
from pathlib import Path
from typing import Any, cast

import asyncssh
import pytest

from harness.emulator.box.server import BoxServer
from harness.emulator.freeport import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")


def _ends(client: socket.socket) -> None:
    client.settimeout(120)
    with contextlib.suppress(ConnectionResetError):
        while client.recv(4096):
            pass


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_that_is_accepted_while_it_closes_is_cut(turns: int, tmp_path: Path) -> None:
    """``turns`` of the event loop lie between the connection and the end: each is another step of accepting it."""
    key = tmp_path / "key"
    key.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    port = free_port()

    async def life() -> None:
        server = BoxServer(cast("Any", None), cast("Any", None), lambda _kinds, _route, _sent: None)
        await server.listen(key, {"direct": port})
        with socket.create_connection(("127.0.0.1", port)) as client:
            for _ in range(turns):
                await asyncio.sleep(0)
            await server.close()
            await asyncio.to_thread(_ends, client)

    asyncio.run(life())
    gc.collect()  # a transport that nobody closed says so now, and pytest takes it for an error
