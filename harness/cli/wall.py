"""``harness guard lock``, ``unlock``, ``rotate``, ``status``: the wall that the provider itself holds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from harness.core.errors import GateHeld, Refused

if TYPE_CHECKING:
    from harness.providers.wall import Wall

_Kind = Annotated[
    str | None, typer.Option("--provider", help="A kind of provider, as in a job file; else as in harness orphans.")
]
_WORD = "unlock"


def lock(provider: _Kind = None) -> None:
    """Put a key that cannot destroy where the provider's own program looks; keep one that can for the harness alone."""
    wall = _open(provider)
    wall.lock()
    _tell(wall)


def rotate(provider: _Kind = None) -> None:
    """Make both keys of the wall anew and delete the old ones."""
    wall = _open(provider)
    wall.lock(anew=True)
    _tell(wall)


def unlock(provider: _Kind = None) -> None:
    """Put your own key back and delete the keys of the wall; asks for a word at the terminal."""
    wall = _open(provider)
    if not sys.stdin.isatty():
        raise Refused("a wall is taken down by a person at a terminal", remedy="Type harness guard unlock yourself.")
    try:
        typed = input(f"Whoever uses your key again can destroy. Type '{_WORD}' to put it back: ").strip()
    except EOFError:
        typed = ""
    if typed != _WORD:
        raise Refused("nothing was changed", remedy=f"Run the same command again and type {_WORD}.")
    wall.unlock()
    typer.echo("your own key is where it was; the keys of the wall are deleted at the provider and here")


def status(provider: _Kind = None) -> None:
    """Say which wall stands, tried at the provider key by key, and what it cannot hold."""
    _tell(_open(provider))


def _open(provider: str | None) -> Wall:
    from harness.providers.registry import DEFAULT  # noqa: PLC0415  # the judge starts faster without it
    from harness.wiring import open_wall  # noqa: PLC0415  # see above

    return open_wall(provider or DEFAULT)


def _tell(wall: Wall) -> None:
    """Print every part of the wall; raises GateHeld where one is open."""
    seen = wall.standing()
    gaps = [place for place in seen if not place.holds]
    for place in seen:
        typer.echo(f"{'ok  ' if place.holds else 'OPEN'}  {place.told}: {place.seen}")
    typer.echo("What it cannot hold, or is not known to:")
    for limit in wall.issuer.limits:
        typer.echo(f"  - {limit}")
    if gaps:
        raise GateHeld(
            "the wall does not stand: " + "; ".join(f"{place.told}: {place.seen}" for place in gaps),
            remedy="harness guard lock builds it; take a key that stands in a variable out of where it is set "
            "(unset VARIABLE, the shell's start file).",
        )
    typer.echo("the wall stands: whoever asks, with whatever program, the provider refuses these keys to destroy")
