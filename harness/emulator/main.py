"""The emulator as a program: it serves until it is stopped, and its boxes outlive it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from harness.emulator.clock import TurnableClock
from harness.emulator.keeper import Keeper
from harness.emulator.running import free_port, serving
from harness.emulator.scenario import load
from harness.emulator.world import World
from harness.errors import BadInput, HarnessError


def serve(port: int, state_dir: Path, scenario: str | Path | None) -> None:
    """Serve on a loopback port (0: any free one) until SIGINT or SIGTERM.

    Prints the address and the API key first. Instances and their processes stay, and a
    new call with the same ``state_dir`` goes on with them. Raises BadInput.
    """
    if sys.platform == "win32":
        raise BadInput("the emulated boxes need Linux or macOS", remedy="Run the emulator inside WSL.")
    chosen = load(scenario)
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise BadInput(f"{state_dir} cannot be used: {error}") from None
    world = World(state_dir.resolve(), TurnableClock(), chosen, free_port)
    asyncio.run(_serve(world, port))


async def _serve(world: World, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    async with serving(world, Keeper(world), port, keep_boxes=True) as url:
        _say(f"listening on {url}")
        _say(f"key: {world.key}")
        await stop.wait()
    alive = [rental.id for rental in world.visible()]
    if alive:
        _say(f"stopped; instances {', '.join(map(str, alive))} stay in {world.state_dir} and go on with the next start")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """``python -m harness.emulator``."""
    parser = argparse.ArgumentParser(prog="python -m harness.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 takes a free one")
    parser.add_argument("--state", type=Path, default=Path("emulator-state"), help="directory of its memory and boxes")
    parser.add_argument("--scenario", help="a scenario's name or a TOML file")
    options = parser.parse_args(arguments)
    try:
        serve(options.port, options.state, options.scenario)
    except HarnessError as error:
        sys.stderr.write(f"{error}\n{error.remedy}\n")
        return error.exit_code
    return 0
