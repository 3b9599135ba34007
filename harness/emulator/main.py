"""The emulator as a program: it serves until it is stopped, and its boxes outlive it."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from harness.core.errors import BadInput, HarnessError, MissingExtra


def serve(port: int, state_dir: Path, scenario: str | Path | None) -> None:
    """Serve on a loopback port (0: any free one) until SIGINT or SIGTERM.

    Prints the address and the API key first. Instances and their processes stay, and a
    new call with the same ``state_dir`` goes on with them. Raises BadInput, MissingExtra.
    """
    if sys.platform == "win32":
        raise BadInput("the emulated boxes need Linux or macOS", remedy="Run the emulator inside WSL.")
    asyncio.run(_serve(port, state_dir.resolve(), scenario))


async def _serve(port: int, state_dir: Path, scenario: str | Path | None) -> None:
    # Imported here: the libraries come with an extra, and terminals exist only where boxes can run.
    try:
        from harness.emulator.clock import TurnableClock  # noqa: PLC0415
        from harness.emulator.freeport import free_port  # noqa: PLC0415
        from harness.emulator.reconciler import Reconciler  # noqa: PLC0415
        from harness.emulator.scenario import load  # noqa: PLC0415
        from harness.emulator.serving import owning, serving  # noqa: PLC0415
        from harness.emulator.world import World  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra("the emulator", "emulator") from error

    with owning(state_dir):
        world = World(state_dir, TurnableClock(), load(scenario), free_port)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with serving(world, Reconciler(world), port, keep_boxes=True) as served:
            _say(f"listening on {served.url}")
            _say(f"key: {world.key}")
            await served.until(stop)
        alive = ", ".join(str(rental.id) for rental in world.visible())
        if alive:
            _say(f"stopped; the instances {alive} stay, and go on with the next start on {state_dir}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """``python -m harness.emulator``; returns the exit code."""
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
