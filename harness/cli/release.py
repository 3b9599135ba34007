"""``harness release``: show a release statement, or check it against the event log and the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.core.errors import Refused
from harness.core.lifecycle import Stage
from harness.core.text import human_bytes, printable
from harness.release import release as releases
from harness.release.statement import rfc3339

app = typer.Typer(help="Read or check a release statement.", no_args_is_help=True)

_File = Annotated[Path, typer.Argument(metavar="FILE", help="A release statement (in-toto, JSON).")]


@app.command()
def show(file: _File) -> None:
    """Say in words which instance may go for which file's sake."""
    release = releases.read(file)
    last = release.gate(Stage.POSTDOWNLOAD)
    lines = [
        ("folder" if release.files else "file", f"{release.name} ({human_bytes(release.size)}, {release.size} bytes)"),
        ("sha256", f"{release.sha256}{' (of its manifest)' if release.files else ''}"),
        *(("holds", f"{part.path} ({part.size} bytes) {part.sha256}") for part in release.files),
        ("came from", release.remote_path),
        ("releases", f"instance {release.instance_id} ({release.label}) at {release.provider}"),
        ("job", release.job),
        ("gates", ", ".join(f"{gate.stage} {gate.verdict.name}" for gate in release.gates)),
        ("postdownload", ", ".join(f"{check.id} {check.verdict.name}" for check in last.checks) if last else "nothing"),
        ("event log", f"event {release.log.seq}, {release.log.digest}"),
        ("issued", rfc3339(release.issued)),
        ("expires", rfc3339(release.expires)),
    ]
    for name, value in lines:
        typer.echo(f"{name:<13}{printable(value).replace(chr(10), ' ')}")


@app.command()
def check(
    file: _File,
    artifact: Annotated[
        Path | None,
        typer.Option(help="The file, or the folder, to compare.", show_default="the one that the job verified"),
    ] = None,
) -> None:
    """Check it against the job's event log, and the file on this machine, read anew. Exit code 0 valid, 5 refused."""
    from harness.wiring import open_context  # noqa: PLC0415 - show works without a store

    release = releases.read(file)
    with open_context(release.job) as context:
        found = list(releases.problems(release, context.history, context.clock.now()))
        found += releases.outdated(context.history).values()
        verified = context.history.verified
    path = artifact or (Path(verified.path) if verified else None)
    problem = releases.file_problem(release, path) if path else "no verified file is recorded"
    if problem:
        found.append(problem)
    if found:
        raise Refused(
            f"{printable(str(file))} is not valid: " + "; ".join(found),
            remedy=f"harness run {release.job} verifies it again and makes a new one.",
        )
    typer.echo(f"valid: {printable(str(path))} is the file for which instance {release.instance_id} is released")
