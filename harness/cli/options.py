"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.core.lifecycle import Stage

Yes = Annotated[bool, typer.Option("--yes", help="Agree in advance to the destruction, once everything is verified.")]
YesToAll = Annotated[
    bool,
    typer.Option("--yes", help="Agree in advance to the rental, within the caps, and to the destruction at the end."),
]
Plain = Annotated[bool, typer.Option("--plain", help="Plain lines, also on a terminal.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the checks that passed, too.")]
Until = Annotated[Stage | None, typer.Option(help="Stop after this stage's gate has opened.")]
