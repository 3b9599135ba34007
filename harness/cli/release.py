"""``harness release``: show a release statement, sign it, or check it: file, signature, and the job's event log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from harness.core import durable
from harness.core.errors import BadInput, Refused
from harness.core.lifecycle import Stage
from harness.core.text import human_bytes, printable, rfc3339
from harness.release import envelope as envelopes
from harness.release import release as releases
from harness.release import signing
from harness.release.envelope import Envelope
from harness.release.release import Release

app = typer.Typer(help="Read, sign or check a release statement.", no_args_is_help=True)

_File = Annotated[Path, typer.Argument(metavar="FILE", help="A release statement (in-toto, JSON), signed or not.")]

_SIGNED = ".dsse.json"
"""End of the name of a signed statement's file."""


@app.command()
def show(file: _File) -> None:
    """Say in words which instance may go for which file's sake."""
    release, envelope = _read(file)
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
        ("statement", f"SHA-256 {releases.digest_of(release)}"),
        ("signed by", ", ".join(one.keyid for one in envelope.signatures) or "nobody"),
    ]
    for name, value in lines:
        typer.echo(f"{name:<13}{printable(value).replace(chr(10), ' ')}")


@app.command()
def sign(
    file: _File,
    key: Annotated[
        Path,
        typer.Option(help="An SSH key (the .pub file of one that the agent holds), or an Ed25519 private key in PEM."),
    ],
) -> None:
    """Put the statement into a signed envelope beside it: NAME.dsse.json. One that is signed gets another signature."""
    release, envelope = _read(file)
    if found := releases.own_problems(release):
        raise Refused(f"{printable(str(file))} is not signed: " + "; ".join(found), remedy="Sign a valid one.")
    made = file if file.name.endswith(_SIGNED) else file.with_suffix(_SIGNED)
    if made != file and made.exists():
        earlier = envelopes.read(made)
        if earlier.payload != envelope.payload:
            raise BadInput(f"{printable(str(made))} holds another statement", remedy="Move it away, then sign again.")
        envelope = earlier
    signed = signing.signed(envelope, key)
    durable.write(made, envelopes.to_json(signed))
    typer.echo(f"{printable(str(made))} is signed by {printable(signed.signatures[-1].keyid)}")


@app.command()
def check(
    file: _File,
    artifact: Annotated[
        Path | None,
        typer.Option(help="The file, or folder, to compare.", show_default="the one beside FILE, by its name"),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="A public key, SSH's or Ed25519 in PEM, by which it must be signed; one of several."),
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Hold it against its job's event log on this machine, too, as the guard does.")
    ] = False,
) -> None:
    """Check a statement by itself, the file that it names, read anew, and its signature. Exit code 0 valid, 5 refused.

    Needs no job, no network and nothing of the machine where it was made.
    """
    release, envelope = _read(file)
    found = list(releases.own_problems(release))
    by = "not asked for: --key PUB names the key by which it must be signed"
    if key is not None:
        keys = signing.public_keys(key)
        verifier = signing.verifier(envelope, keys)
        found += [] if verifier else [signing.problem(envelope, keys)]
        by = f"by {verifier.name}" if verifier else ""
    path = artifact
    if log:
        told, recorded = _against_the_log(release)
        found += [one for one in told if one not in found]
        path = artifact or recorded
    path = path or _beside(file, release)
    found += [one for one in [releases.file_problem(release, path)] if one]
    if found:
        raise Refused(
            f"{printable(str(file))} is not valid: " + "; ".join(found),
            remedy=f"harness run {release.job} verifies it again and makes a new one."
            if log
            else "Ask whoever sent it for the file, the statement and the key anew; do not use the file.",
        )
    typer.echo(f"valid: {printable(str(path))} is the file for which instance {release.instance_id} is released")
    for name, value in _about(release, by, log=log):
        typer.echo(f"{name:<13}{value}")


def _beside(file: Path, release: Release) -> Path:
    path = file.parent / release.name
    if not path.exists():
        raise BadInput(
            f"no {printable(release.name)} lies beside {printable(str(file))}", remedy="Name it: --artifact PATH"
        )
    return path


def _about(release: Release, by: str, *, log: bool) -> Iterator[tuple[str, str]]:
    yield "statement", f"SHA-256 {releases.digest_of(release)}"
    yield "signature", by
    yield "event log", "as it says" if log else "not asked for: --log, on the machine where the job ran"
    yield "expires", f"{rfc3339(release.expires)}: until then it releases the instance; what it says of the file stays"


def _read(file: Path) -> tuple[Release, Envelope]:
    envelope = envelopes.read(file)
    try:
        return releases.read(envelope.payload), envelope
    except BadInput as error:
        raise BadInput(str(error).replace("the release", str(file), 1)) from error


def _against_the_log(release: Release) -> tuple[list[str], Path | None]:
    """Problems by the job's event log, and the file that it verified."""
    from harness.wiring import open_context  # noqa: PLC0415 - without the log no store is needed

    with open_context(release.job) as context:
        found = list(releases.problems(release, context.history, context.clock.now()))
        found += releases.outdated(context.history).values()
        verified = context.history.verified
    return [*found, *([] if verified else ["no verified file is recorded"])], Path(verified.path) if verified else None
