"""``harness export`` and ``harness import``: a job in one file, with which another machine judges its gates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.core.clock import SystemClock
from harness.core.text import human_bytes, human_seconds, printable
from harness.ledger import bundle
from harness.wiring import imported_jobs, open_context, open_ledger


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


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A job's bundle, as harness export wrote it elsewhere.")],
) -> None:
    """Take a job of another machine in, to be shown, judged and reported on here; it is not driven here.

    A newer bundle of the same job takes the place of an older one; another history is refused.
    """
    with open_ledger() as ledger:
        told = imported_jobs().bring(file, ledger.store)
    last, age_s = told.records[-1], SystemClock().now() - told.records[-1].at
    typer.echo(
        f"job {told.job}: {len(told.records)} events, the last {human_seconds(max(0.0, age_s))} ago, SHA-256 "
        f"{last.digest}; recorded elsewhere, and not driven here"
    )
    for name in ("the model", "looks at the training while it ran", *told.left_out):
        typer.echo(f"not in the bundle: {printable(name, 200).replace(chr(10), ' ')}")
