"""``harness report``: what was verified, what it cost, and whether anything can be lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness import report as reports
from harness.artifacts import digest, evaluation, manifest
from harness.cli.confirming import say_bills, staked
from harness.cli.screens import say
from harness.cli.telling import telling
from harness.core import shipped
from harness.core.errors import BadInput, HarnessError
from harness.core.ports import Charge
from harness.ledger import billing
from harness.ledger.events import Adopted, Rented
from harness.lessons import verdicts
from harness.providers import registry
from harness.release import release as releases
from harness.report import Form, card, ending, recorded
from harness.report.model import EvaluationReport, RuleCheck, RuleReport
from harness.report.writing import USUAL
from harness.shellguard import handbook, seeds
from harness.wiring import OpenContext, open_context


def report(
    job: Annotated[str | None, typer.Argument(help="The job's name.", show_default="the one that moved last")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="|".join(Form),
            help="Form to write; again, or with commas, for several.",
            show_default=",".join(USUAL),
        ),
    ] = None,
) -> None:
    """Write the gold-standard report anew and say where it is."""
    asked = _formats(formats) if formats else USUAL
    with open_context(job) as context:
        made = report_of(context)
        for path in reports.write(made, context.directory, asked):
            typer.echo(str(path))
        if not formats and (left := _leave_card(context, made)) is not None:
            typer.echo(str(left))


def _formats(told: Iterable[str]) -> tuple[Form, ...]:
    names = [name.strip().lower() for one in told for name in one.split(",")]
    if odd := [name for name in names if name not in set(Form)]:
        raise BadInput(f"--format {odd[0]!r:.40}: a report is one of {', '.join(Form)}")
    return tuple(Form(name) for name in names)


def report_of(context: OpenContext, *, asks: bool = True) -> reports.Report:
    """The report of a job as it stands; unless it ``asks``, without the provider's bill."""
    return reports.build(
        context.history,
        now=context.clock.now(),
        charges=_charges(context) if asks else None,
        release=_release(context),
        evaluation=_evaluation(context),
        rules=_rules(),
        training=recorded.training(context.history, context.directory),
        elsewhere=context.ran_elsewhere,
    )


def _charges(context: OpenContext) -> tuple[Charge, ...] | None:
    """The provider's bill of every instance of the job; None when it cannot be had, which the report says."""
    rented = {one.instance_id for one in context.history.all(Rented) + context.history.all(Adopted)}
    if not rented:
        return None
    try:
        had = sorted(rented, key=str)
        return tuple(charge for instance_id in had for charge in context.provider().charges(instance_id))
    except HarnessError:
        return None


def _release(context: OpenContext) -> releases.Release | None:
    path = context.history.release_path
    try:
        release = releases.read(Path(path)) if path else None
    except HarnessError:
        return None
    return release if release and releases.digest_of(release) == context.history.release_sha256 else None


def _evaluation(context: OpenContext) -> EvaluationReport | None:
    """The evaluation that the log names; None when it names none."""
    told = context.history.evaluated
    if told is None or told.sha256 is None:
        return None
    try:
        data = (context.directory / "companions" / evaluation.FILE).read_bytes()
        if digest.of_bytes(data) != told.sha256:
            return EvaluationReport({}, f"the {evaluation.FILE} here is not the one that came from the box")
        return EvaluationReport(evaluation.read(data), "")
    except (HarnessError, OSError) as error:
        return EvaluationReport({}, str(error))


def _leave_card(context: OpenContext, report: reports.Report) -> Path | None:
    """Put the model's card beside the verified model, where that still lies; raises OSError."""
    verified = context.history.verified
    text = card.render(report, context.history, _modelfile(context))
    if verified is None or text is None or not (place := Path(verified.path)).exists():
        return None
    return card.leave(text, place.parent, place.name, context.name)


def _modelfile(context: OpenContext) -> str | None:
    """The package's Modelfile as its manifest states it; None when there is none that reads."""
    companions = context.directory / "companions"
    try:
        outputs = manifest.read_output_manifest((companions / "MANIFEST.json").read_bytes())
        for entry in outputs.of_kind("modelfile"):
            data = (companions / entry.path).read_bytes()
            return data.decode() if digest.of_bytes(data) == entry.sha256 else None
    except (HarnessError, OSError, ValueError):
        pass
    return None


def _rules() -> tuple[RuleReport, ...]:
    """The first user's rules with the checks that keep them; none where the checks cannot be read."""
    try:
        traced = seeds.trace(handbook.claims(shipped.folder("checks")))
    except HarnessError:
        return ()
    return tuple(
        RuleReport(
            rule.document,
            rule.rule,
            rule.words,
            rule.differs,
            tuple(RuleCheck(claim.stage, claim.check) for claim in claims),
            verdicts.behind(rule.words).strip(" []") if rule.rule.startswith("doesn't work") else "",
        )
        for rule, claims in traced.items()
    )


def spent(context: OpenContext) -> float | None:
    """Cost of the instance so far at the agreed price (USD); None before there is one."""
    return billing.spent(context.history, context.clock.now()) if context.job.is_billed else None


@contextmanager
def reported(context: OpenContext, console: Console, *, agreed: bool = False) -> Iterator[None]:
    """Whatever happens, leave the report, and end with how the job ended, or what bills and how that is ended.

    Meanwhile people who are elsewhere are told, as ``telling`` does it.
    """
    failed = True
    if registry.is_embedded(context.job.provider.kind):
        say(console, "the provider is embedded: every $ is reckoned, and no real money is paid")
    try:
        with staked(context, console), telling(context, console, agreed=agreed):
            yield
        failed = False
        say_bills(context, console)
    finally:
        try:
            report = report_of(context)
            *_, page = reports.write(report, context.directory)
            _leave_card(context, report)
        except (HarnessError, OSError) as error:
            say(console, f"the report could not be written: {error}", "red")
        else:
            for line in ending.lines(report, failed=failed):
                say(console, line)
            say(console, f"report: {page}")
