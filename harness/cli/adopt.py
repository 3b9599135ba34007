"""``harness adopt``: take over an instance that no job here has rented, or only see what would keep it from that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.options import Plain, Verbose, instance_option
from harness.cli.progress_view import open_reporter
from harness.cli.rebuilding import Options, rebuild
from harness.cli.report import reported, spent
from harness.cli.screens import LastingConsole
from harness.core import environment
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, Refused
from harness.core.ids import InstanceId, JobName
from harness.core.lifecycle import Stage
from harness.core.text import command_line
from harness.job.load import load_job
from harness.job.model import Job
from harness.providers import registry
from harness.runner import adoption
from harness.runner.run import reopen_if_spoilt
from harness.runner.run import run as run_job
from harness.wiring import OpenContext, open_context, open_ledger, open_look, open_provider


def adopt(
    instance_id: Annotated[InstanceId, instance_option("The instance.")],
    job_file: Annotated[
        Path | None,
        typer.Option(help="What its training should have been; without one, a file is written from what its box says."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only judge the finished run with your own SSH key; nothing is changed.")
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(
            help="To look into the box, without --job-file or with --check.", show_default="what ssh would use"
        ),
    ] = None,
    provider: Annotated[
        str, typer.Option(help="To write a job file: the provider's kind.", autocompletion=registry.kinds)
    ] = registry.DEFAULT,
    name: Annotated[str | None, typer.Option(help="To write one: the job's name.", show_default="the label's")] = None,
    package: Annotated[Path | None, typer.Option(help="To write one: the package that was sent, here.")] = None,
    destination: Annotated[Path | None, typer.Option(help="To write one: where the model shall arrive.")] = None,
    model: Annotated[
        str | None, typer.Option(help="To write one: the base model, or a folder with its config.json.")
    ] = None,
    quantization: Annotated[str | None, typer.Option(help="To write one: of the model file.")] = None,
    remote_dir: Annotated[str | None, typer.Option(help="To write one: the package's folder on the box.")] = None,
    defaults: Annotated[
        bool, typer.Option("--defaults", "-y", help="To write one: ask nothing, take the profile's.")
    ] = False,
    plain: Plain = False,
    verbose: Verbose = False,
) -> None:
    """Take over an instance that was rented by hand: judge its run, bring its model home; nothing is destroyed."""
    instance, console = instance_id, LastingConsole()
    told = Options(provider, name, package, destination, model, quantization, remote_dir, defaults)
    if job_file is None:
        if check:
            raise BadInput("--check goes with --job-file, by which the run is judged")
        with open_reporter(console, True, verbose=verbose) as reporter:  # who is asked sees no screen that moves
            rebuild(instance, told, key, reporter)
    elif told != Options(registry.DEFAULT):
        raise BadInput("--job-file says it all: the options that tell what to write go without it")
    else:
        _adopt(instance, job_file, key, console, check=check, plain=plain, verbose=verbose)


def _adopt(
    instance: InstanceId, job_file: Path, key: Path | None, console: Console, *, check: bool, plain: bool, verbose: bool
) -> None:
    expected, file = load_job(job_file), job_file.resolve()
    if check:
        _look(expected, file, instance, key, console, plain=plain, verbose=verbose)
        return
    if key is not None:
        raise BadInput("--key goes with --check: an adoption attaches the harness's own key to the instance")
    with open_context(job_of(instance, expected, file)) as context, context.store.lock(context.name):
        adoption.expect(context, expected, file)
        refuse_forgotten(context, instance)
        reporting = open_reporter(console, plain, verbose=verbose, spent=lambda: spent(context))
        with reported(context, console), reporting as reporter:
            if context.history.closed:
                reporter.note(f"job {context.name} is closed: its file is verified, its instance destroyed")
                return
            reopen_if_spoilt(context, reporter)
            run_job(context, reporter, lambda _id, _file: None, until=Stage.POSTDOWNLOAD)
            verified = context.history.verified
            reporter.note(
                f"verified: {verified.path if verified else ''}; instance {instance} is kept, and it bills: "
                f"harness destroy {context.name} ends it"
            )


def _look(
    expected: Job, file: Path, instance: InstanceId, key: Path | None, console: Console, *, plain: bool, verbose: bool
) -> None:
    with open_ledger() as ledger:
        owner = ledger.owner(instance, expected.provider)
        if owner is not None:
            _require_adopted(owner, ledger.adopted(owner), expected)
    command = f"harness adopt --instance-id {instance} --job-file {command_line([str(file)])}"
    name = adoption.adopted_name(expected, instance)
    with open_look(name, key) as context, open_reporter(console, plain, verbose=verbose) as reporter:
        adoption.adopt(
            context.store, open_provider(expected.provider, context.home, context.clock), expected, file, instance
        )
        reporter.note("a look with your own SSH key: no event is kept, no key attached, nothing started or destroyed")
        adoption.look(context, instance, reporter, f"{command} --check")
        reporter.note(f"nothing holds: {command} brings the model home and verifies it")


def refuse_forgotten(context: OpenContext, instance_id: InstanceId) -> None:
    """Raise Refused for an instance that shows although its job has proven it gone: nothing more is done about it."""
    if context.history.alive is None and context.provider().instance(instance_id) is not None:
        raise Refused(
            f"job {context.name} has proven that instance {instance_id} is gone, and the provider shows it",
            remedy="It may bill: look at the provider's console. harness orphans lists all that is alive.",
        )


def job_of(instance_id: InstanceId, expected: Job | None, file: Path | None) -> JobName:
    """The job that has the instance, or the one that takes it over now."""
    with open_ledger() as ledger:
        owner = ledger.owner(instance_id, expected.provider if expected else None)
        if owner is not None:
            _require_adopted(owner, ledger.adopted(owner), expected)
            return owner
        if expected is None or file is None:
            raise Refused(
                f"no job in this ledger has rented instance {instance_id}: nothing of it is known to be safe",
                remedy="With --job-file FILE, which says what its training should have been, it is taken over: "
                "looked at, its model brought home and verified, and only then destroyed. "
                f"harness adopt --instance-id {instance_id} writes such a file from what its box says; harness adopt "
                "--check with the same options tells beforehand what would hold.",
            )
        provider = open_provider(expected.provider, environment.home(), SystemClock())
        name = adoption.adopted_name(expected, instance_id)
        with ledger.store.lock(name):
            return adoption.adopt(ledger.store, provider, expected, file.resolve(), instance_id)


def _require_adopted(owner: JobName, adopted: bool, expected: Job | None) -> None:
    if expected is not None and not adopted:
        raise BadInput(
            f"job {owner} has rented this instance, and knows what its training should be",
            remedy=f"Without --job-file: harness destroy {owner}.",
        )
