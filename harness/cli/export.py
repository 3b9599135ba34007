"""``harness export``: a job in one file, with which another machine judges its gates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.core.text import human_bytes, printable
from harness.ledger import bundle
from harness.wiring import open_context


def export(
    job: Annotated[str | None, typer.Argument(help="The job's name.", show_default="the one that moved last")] = None,
    to: Annotated[Path | None, typer.Option(help="The file to write.", show_default="JOB.bundle.zip, here")] = None,
) -> None:
    """Pack a job into one file, with which its gates are judged on another machine, as in CI.

    There: pytest --pyargs harness.checks --stage=postdownload --bundle FILE --artifact PATH.
    """
    with open_context(job, only_looks=True) as context:
        path = to or Path(f"{context.name}.bundle.zip")
        left_out = bundle.write(path, context.history, context.directory)
    typer.echo(f"{printable(str(path))} ({human_bytes(path.stat().st_size)})")
    for name in left_out:
        typer.echo(f"left out, for its size: {printable(name)}")
