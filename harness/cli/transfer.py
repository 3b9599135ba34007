"""``harness download``: the verified download, by job or by address."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Annotated

import typer

from harness.artifacts import apart, arrival
from harness.artifacts.expectation import Expectation, size_in_bytes
from harness.artifacts.verify import verify_file
from harness.by_address import open_box
from harness.cli.confirming import say_bills, staked
from harness.cli.floors import SMALLER, Floor, floor_of
from harness.cli.options import Plain, instance_option
from harness.cli.progress_view import open_reporter
from harness.cli.report import spent
from harness.cli.screens import LastingConsole, say
from harness.cli.telling import telling
from harness.core import durable
from harness.core.errors import BadInput, GateHeld, GateUnknown
from harness.core.ids import InstanceId
from harness.core.lifecycle import ORDER, Stage
from harness.core.observed import CouldNotLook
from harness.core.ports import Host, Progress, RemoteFile
from harness.core.questions import DigestOf, Glob
from harness.core.verdict import Verdict
from harness.remote import path_safety
from harness.runner import postdownload
from harness.runner.progress import DOWNLOAD, ProgressReporter
from harness.runner.run import reopen_if_spoilt
from harness.runner.run import run as run_job
from harness.wiring import OpenContext, open_context

_MATCHES = str.maketrans("*?", "__")
DEFAULT_REMOTE = "/workspace/vastai_llm_training/models/output/final/*.gguf"


def download(
    job: Annotated[str | None, typer.Argument(help="The job's name, in place of an address.")] = None,
    instance_id: Annotated[InstanceId | None, instance_option("The instance, for the record.")] = None,
    port: Annotated[int | None, typer.Option(help="The box's SSH port.", min=1, max=65535)] = None,
    ssh_host: Annotated[str | None, typer.Option(help="The box's SSH host.")] = None,
    remote_path: Annotated[str, typer.Option(help="The file on the box; * and ? match.")] = DEFAULT_REMOTE,
    local_path: Annotated[Path | None, typer.Option(help="The folder to put it in.")] = None,
    user: Annotated[
        str | None, typer.Option(help="The box's user.", show_default="of ~/.ssh/config, else root")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="The SSH key.", show_default="what scp would use, then the harness's own")
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(help="Size that the file must exceed, such as 150kB.", show_default="floor of its quantization"),
    ] = None,
    plain: Plain = False,
) -> None:
    """Bring the model home: resumable, hashed at both ends, judged from the local disk before it gets its name."""
    if ssh_host is None:
        if any(one is not None for one in (instance_id, port, local_path, user, key, over)):
            raise BadInput(
                "--instance-id, --port, --local-path, --user, --key and --over go with --ssh-host: a job knows its own"
            )
        _of_job(job, plain=plain)
        return
    if job is not None:
        raise BadInput(f"{job} and --ssh-host {ssh_host} are both named: one says what is to be downloaded")
    if local_path is None:
        raise BadInput("--ssh-host needs --port and --local-path")
    least = None if over is None else size_in_bytes("--over", over)
    if (refusal := durable.refusal(local_path)) is not None:
        raise BadInput(f"--local-path: {refusal}", remedy="Name a folder in which you may write, or mend that one.")
    local_path.mkdir(parents=True, exist_ok=True)
    host, first_use = open_box(ssh_host, port, user, key, str(instance_id or ssh_host))
    console = LastingConsole()
    try:
        with open_reporter(console, plain) as reporter:
            reporter.note(f"asking {ssh_host} for {remote_path}")
            if first_use is not None:
                host.run(["true"])
                reporter.note(
                    "first contact with this box: the host key that it shows is required from now on; compare it with "
                    f"the provider's: ssh-keygen -lf {first_use}"
                )
            local, told = _fetch(host, remote_path, local_path, least, reporter)
    finally:
        host.close()
    say(console, f"verified: {local} ({told})")


def _of_job(job: str | None, *, plain: bool) -> None:
    console = LastingConsole()
    with (
        open_context(job) as context,
        context.store.lock(context.name),
        staked(context, console),
        telling(context, console, agreed=False),
    ):
        stage = context.history.stage
        if stage is not None and ORDER.index(stage) < ORDER.index(Stage.POSTTRAIN):
            raise BadInput(
                f"job {context.name} is at stage {stage}: there is nothing to download yet",
                remedy=f"harness run {context.name} goes on with it.",
            )
        problem = _problem_here(context)
        if problem is None and context.history.passed(Stage.POSTDOWNLOAD) and context.history.verified is not None:
            say(console, f"already verified: {context.history.verified.path}")
            say_bills(context, console)
            return
        with open_reporter(console, plain, spent=lambda: spent(context)) as reporter:
            if problem is not None:
                reopen_if_spoilt(context, reporter)
                if context.history.passed(Stage.POSTDOWNLOAD):
                    raise _lost(context, problem)
            run_job(context, reporter, lambda _id, _file: None, until=Stage.POSTDOWNLOAD)
        say_bills(context, console)


def _problem_here(context: OpenContext) -> str | None:
    """Problem of the verified file, read from the disk now; None when it is sound, or nothing was verified yet."""
    artifact = context.history.artifact
    if artifact is None or not context.history.passed(Stage.POSTDOWNLOAD):
        return None
    return postdownload.local_problem(context, artifact)


def _lost(context: OpenContext, problem: str) -> GateHeld:
    """The file is not here any more, and the instance that had it is gone: where another copy may be."""
    artifact, folder = context.history.artifact, context.job.artifact.second_copy
    name = "" if artifact is None else context.name if artifact.files else posixpath.basename(artifact.path)
    address = context.job.artifact.second_copy_url
    there = folder / name if folder is not None else f"{address}/{name}" if address is not None else None
    second = f"its second copy, {there}," if there is not None else "a backup"
    return GateHeld(
        f"{problem}, and the instance of job {context.name} is gone: it cannot be fetched again",
        remedy=f"Put {second} back in its place (SHA-256 {artifact.sha256 if artifact else 'unknown'}), "
        f"then harness download {context.name} looks again. Without any copy, only a new training makes it again.",
    )


def _fetch(host: Host, pattern: str, folder: Path, least: int | None, reporter: ProgressReporter) -> tuple[Path, str]:
    """The one file that matches, judged before it gets its name, and its size in words.

    Raises GateHeld or GateUnknown for no whole model.
    Another file of that name is put aside.
    """
    remote = _recorded(host, pattern)
    local = folder / posixpath.basename(remote.path)

    def show(progress: Progress) -> None:
        reporter.meter(DOWNLOAD, progress.done, progress.total)

    here = local if arrival.is_here(local, remote.sha256) else local.with_name(f"{local.name}.unverified")
    if here is not local:
        host.fetch(remote, here, show)
    floor = Floor(least, "--over") if least is not None else floor_of(here, local.name)
    known = Expectation(size=remote.size, sha256=remote.sha256, over_bytes=floor.over_bytes)
    findings = apart.findings(verify_file, here, known)
    shut = [finding for finding in findings if finding.verdict is not Verdict.PASS]
    if shut or floor.over_bytes is None:
        told = [f"{one.claim}: {one.seen}, expected {one.expected}" for one in shut]
        told += [floor.told] if not shut or any(one.id == "over_floor" for one in shut) else []
        failed = any(one.verdict is Verdict.FAIL for one in shut)
        remedy = SMALLER if all(one.id == "over_floor" for one in shut) else None
        raise (GateHeld if failed else GateUnknown)("\n".join([*told, f"the file is {here}"]), remedy=remedy)
    if here is not local:
        aside = arrival.make_way(local)
        if aside is not None:
            reporter.note(f"another file was at {local}: kept as {aside.name}")
        durable.publish(here, local)
    return local, f"{remote.size:,} bytes, more than {floor.over_bytes:,}: {floor.told}"


def _recorded(host: Host, pattern: str) -> RemoteFile:
    if (odd := path_safety.refused(pattern.translate(_MATCHES))) is not None:
        raise BadInput(odd, remedy=path_safety.REMEDY)
    try:
        path = path_safety.one_file(host.probe([glob := Glob(pattern)])[glob].get(), pattern)
        digest = host.probe([question := DigestOf(path)], timeout=600)[question].get()
    except CouldNotLook as error:
        raise path_safety.not_found(error) from error
    if digest.sha256 is None:
        raise BadInput(f"{path} is no longer on the box")
    return RemoteFile(path, digest.bytes, digest.sha256)
