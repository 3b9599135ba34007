"""``harness serve``: the reports of all jobs in a browser of this machine, as they change. It only looks."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.live_pages import Pages
from harness.cli.live_server import HOST, Server
from harness.core.clock import SystemClock
from harness.wiring import open_ledger

PORT = 8377


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help=f"Port on {HOST}; 0 takes a free one.")] = PORT,
) -> None:
    """Show the reports of all jobs in a browser of this machine, as they change. It only looks; Ctrl-C ends it."""
    with open_ledger() as ledger, Server(port, Pages(ledger, SystemClock())) as server:
        typer.echo(f"{server.address} (this machine only; Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended; every job goes on as it was")
