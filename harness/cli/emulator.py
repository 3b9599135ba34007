"""``harness emulator``: the embedded Vast.ai, served until it is stopped."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from harness.core import environment
from harness.core.errors import BadInput
from harness.emulator import state as memory
from harness.emulator.main import serve
from harness.emulator.scenario import load, names
from harness.providers.emulated import stop_emulator

Listed = Annotated[bool, typer.Option("--list", help="Say what each scenario is, and end.")]


def emulator(
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 0,
    state: Annotated[
        Path | None, typer.Option(help="Where its instances and boxes live.", show_default="below the harness's home")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="A scenario's name or TOML file: faults, when and how often.")
    ] = None,
    stopping: Annotated[
        bool, typer.Option("--stop", help="Stop the one of --state; without it, every one of this harness's home.")
    ] = False,
    listed: Listed = False,
) -> None:
    """Serve Vast.ai's API and SSH boxes on this machine; prints its address and an API key."""
    if listed:
        show_scenarios()
    elif stopping:
        _stop(state)
    else:
        serve(port, state or environment.home() / "emulator-by-hand", scenario)


def show_scenarios() -> None:
    """Name every scenario, with what happens in it and how a careful operator's job ends."""
    width = min(shutil.get_terminal_size().columns, 120)
    for name in names():
        known = load(name)
        typer.echo(name)
        typer.echo(
            textwrap.fill(f"{known.about} Ends {known.ends}.", width - 1, initial_indent="  ", subsequent_indent="  ")
        )


def _stop(state: Path | None) -> None:
    """Stop what serves; what lives in it stays, and is named."""
    if state is not None and not state.is_dir():
        raise BadInput(f"--state {state}: there is no such folder, so no emulator serves it")
    homes = [state] if state is not None else sorted(environment.home().glob("emulator*"))
    stopped = [home for home in homes if home.is_dir() and stop_emulator(home)]
    for home in stopped:
        known = memory.read(home / "state" if (home / "state").is_dir() else home)
        alive = ", ".join(map(str, sorted(known[0].rentals))) if known is not None else ""
        stay = f"; the instances {alive} stay with their processes, and go on with its next start"
        typer.echo(f"stopped the emulator of {home}" + (stay if alive else ""))
    if not stopped:
        typer.echo(f"no emulator is running in {state or environment.home()}")
