"""The emulator as a program: it serves until it is stopped, and its boxes outlive it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from queue import Empty, SimpleQueue

from harness.core import durable
from harness.core.errors import BadInput, HarnessError, MissingExtra
from harness.core.in_use import nobody

_LOOK_S = 2.0
"""How often one that ends by itself looks whether it is in use."""
_PID = "pid"
"""File in the state directory by which whoever wants it to end finds its process."""


def serve(port: int, state_dir: Path, scenario: str | Path | None, *, while_used: Path | None = None) -> None:
    """Serve on a loopback port (0: any free one) until SIGINT or SIGTERM.

    Prints the address and the API key first. Instances and their processes stay, and a
    new call with the same ``state_dir`` goes on with them. With ``while_used``, a file of ``harness.core.in_use``,
    it also ends when no process holds that and no instance is there. Raises BadInput, MissingExtra.
    """
    if sys.platform == "win32":
        raise BadInput("the emulated boxes need Linux or macOS", remedy="Run the emulator inside WSL.")
    try:  # here: the libraries come with an extra, and terminals exist only where boxes can run
        from harness.emulator.running import running  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra("the emulator", "emulator") from error
    # A queue, not an Event: a signal that arrives while the Event's own lock is held would wait for it for ever.
    ends: SimpleQueue[None] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ends.put(None))
    with running(state_dir, scenario=scenario, port=port, keep_boxes=True) as emulator:
        durable.write(state_dir / _PID, str(os.getpid()).encode())
        emulator.ended.add_done_callback(lambda _: ends.put(None))
        _say(f"listening on {emulator.url}")
        _say(f"key: {emulator.key}")
        while not _arrived(ends, _LOOK_S if while_used is not None else None):
            if while_used is not None and not emulator.world.rentals() and nobody(while_used):
                break
        alive = ", ".join(str(rental.id) for rental in emulator.world.visible())
    if alive:
        _say(f"stopped; the instances {alive} stay, and go on with the next start on {state_dir.resolve()}")


def _arrived(ends: SimpleQueue[None], timeout: float | None) -> bool:
    """True when an end was asked for within ``timeout`` seconds."""
    try:
        ends.get(timeout=timeout)
    except Empty:
        return False
    return True


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """``python -m harness.emulator``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m harness.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 takes a free one")
    parser.add_argument("--state", type=Path, default=Path("emulator-state"), help="directory of its memory and boxes")
    parser.add_argument("--scenario", help="a scenario's name or a TOML file")
    parser.add_argument("--while-used", type=Path, help="end when no process holds this file and no instance is there")
    options = parser.parse_args(arguments)
    try:
        serve(options.port, options.state, options.scenario, while_used=options.while_used)
    except HarnessError as error:
        sys.stderr.write(f"{error}\n{error.remedy}\n")
        return error.exit_code
    return 0
