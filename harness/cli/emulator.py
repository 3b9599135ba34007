"""``harness emulator``: the embedded Vast.ai, served until it is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.core import environment
from harness.emulator.main import serve


def emulator(
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 0,
    state: Annotated[
        Path | None, typer.Option(help="Where its instances and boxes live.", show_default="below the harness's home")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="A scenario's name or TOML file: faults, when and how often.")
    ] = None,
) -> None:
    """Serve Vast.ai's API and SSH boxes on this machine; prints its address and an API key."""
    serve(port, state or environment.home() / "emulator-by-hand", scenario)
