"""The command line: prints, never decides. Every failure ends with what to do next and a documented exit code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from harness import __version__
from harness.cli import abandon, emulator, guard, jobs, orphans, release, rules, teardown, transfer, verify
from harness.cli.progress_view import show_failure
from harness.core.errors import HarnessError

app = typer.Typer(
    name="harness",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command("run")(jobs.run)
app.command("demo")(jobs.demo)
app.command("status")(jobs.status)
app.command("report")(jobs.report)
app.command("download")(transfer.download)
app.command("verify")(verify.verify)
app.command("destroy")(teardown.destroy)
app.command("abandon")(abandon.abandon)
app.command("orphans")(orphans.orphans)
app.command("emulator")(emulator.emulator)
app.add_typer(guard.app, name="guard")
app.add_typer(release.app, name="release")
app.add_typer(rules.app, name="rules")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"gold-standard-harness {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Fine-tune on rented GPUs: no gate opens without proof, nothing is destroyed before the model is home."""


def main() -> None:
    """The entry point."""
    try:
        app()
    except HarnessError as error:
        show_failure(Console(stderr=True), error)
        sys.exit(error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        failure = HarnessError(f"this machine failed: {where}{error.strerror or error}")
        show_failure(Console(stderr=True), failure)
        sys.exit(failure.exit_code)
