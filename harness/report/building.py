"""From a job's history to its report. Pure: reads no file and asks nobody."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from harness.core.errors import BadInput
from harness.core.ids import CheckId, plain
from harness.core.lifecycle import ORDER, Stage
from harness.core.ports import Charge
from harness.core.text import printable
from harness.gates import plan
from harness.gates.evidence import CheckResult, result_from_json
from harness.job import estimate
from harness.job.model import Job
from harness.ledger import billing, bills, paid_parts, predicted
from harness.ledger.codec import decode
from harness.ledger.events import GateJudged, Held
from harness.ledger.history import History
from harness.ledger.noted import ImageHad
from harness.providers import registry
from harness.release.statement import Release
from harness.report import standing
from harness.report.model import (
    ArtifactReport,
    BilledKind,
    EvaluationReport,
    Hold,
    InstanceReport,
    MoneyReport,
    ReleaseReport,
    Report,
    RuleReport,
    StageReport,
    StageState,
    TrainingReport,
)
from harness.report.moments import timeline

_LONGEST = 4000
"""Characters of a text in a report, at most."""


def build(
    history: History,
    *,
    now: float,
    charges: tuple[Charge, ...] | None,
    release: Release | None = None,
    evaluation: EvaluationReport | None = None,
    rules: tuple[RuleReport, ...] = (),
    training: TrainingReport | None = None,
    elsewhere: bool = False,
) -> Report:
    """The report of a job at ``now``.

    ``charges`` is the provider's bill of its instance, None when it was not asked. ``release``
    is the statement that the log names, when its file was read; ``evaluation`` what came of the one
    that it names; ``training`` what was recorded of its course. ``rules`` get the verdicts of this job.
    ``elsewhere``: the job ran on another machine, and is told as of its last event.
    """
    until = history.records[-1].at if elsewhere else now
    spans = billing.paid_spans(history.records, until) if history.job.is_billed else ()
    stages = tuple(_stage(stage, history, spans, until) for stage in ORDER)
    artifact, instance = _artifact(history), _instance(history)
    stands, bill = standing.of(history), bills.bills(history)
    report = Report(
        job=history.job.name,
        standing=stands,
        headline=standing.age(until, now) * elsewhere + standing.headline(stands, history, stages),
        safety=standing.safety(artifact, instance, bill),
        next_step=standing.judging(history) if elsewhere else standing.next_step(stands, history, bill),
        written_at=now,
        log_seq=history.records[-1].seq if history.records else 0,
        log_digest=history.head,
        stages=stages,
        artifact=artifact,
        instance=instance,
        money=_money(history, spans, charges, until),
        release=_release(history, release),
        holds=_holds(history),
        timeline=timeline(history.records),
        evaluation=evaluation or EvaluationReport({}, _not_evaluated(history)),
        rules=_rules(rules, stages),
        training=training,
    )
    printed: Report = _printable(report)
    return printed


def _printable(value: Any) -> Any:
    """A value in which every text is printable and bounded, whatever wrote it; a release stays as it is signed."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return printable(value, _LONGEST)
    if isinstance(value, tuple):
        return tuple(map(_printable, value))
    if isinstance(value, Mapping):
        return {_printable(key): _printable(one) for key, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type | Release):
        return dataclasses.replace(
            value, **{one.name: _printable(getattr(value, one.name)) for one in dataclasses.fields(value)}
        )
    return value


def _stage(stage: Stage, history: History, spans: Sequence[billing.PaidSpan], now: float) -> StageReport:
    entered, gate = history.entered.get(stage), history.gates.get(stage)
    state = _state(stage, history)
    left = history.judged_at[stage] if state is StageState.PASSED else None
    began, ended = (None, None) if entered is None else (entered, max(entered, now if left is None else left))
    checks, silent, problems = _judged(stage, gate, history)
    trained = billing.training_ended_at(history)
    other = plan.of_other_kinds(history.job)
    return StageReport(
        stage=stage,
        state=state,
        verdict=gate.verdict if gate else None,
        entered_at=entered,
        left_at=left,
        seconds=None if began is None or ended is None else ended - began,
        usd=_paid(spans, began, ended),
        idle_usd=None if trained is None or began is None else _paid(spans, max(began, trained), ended),
        checks=checks,
        silent=silent,
        left_out={check: why for check, why in sorted(plan.left_out(stage, history.job).items()) if check not in other},
        problems=problems,
        plan_digest=gate.plan_digest if gate else None,
        facts_path=gate.facts_path if gate else None,
        facts_sha256=gate.facts_sha256 if gate else None,
        judged_at=history.judged_at.get(stage),
    )


def _paid(spans: Sequence[billing.PaidSpan], began: float | None, ended: float | None) -> float | None:
    return billing.usd_within(spans, began, ended) if spans and began is not None and ended is not None else None


def _judged(
    stage: Stage, gate: GateJudged | None, history: History
) -> tuple[tuple[CheckResult, ...], tuple[str, ...], tuple[str, ...]]:
    """Each check's result, the required ones that did not report, and what kept the gate from being judged."""
    declared = plan.declared(stage, history.job)
    if gate is None:
        return (), declared, ()
    try:
        result = result_from_json(gate.result)
    except ValueError as error:
        return (), declared, (f"the record of this gate does not read: {error}",)
    return result.results, result.missing, result.problems


def _state(stage: Stage, history: History) -> StageState:
    if stage not in history.stages:
        return StageState.LEFT_OUT
    if history.passed(stage):
        return StageState.PASSED
    if stage is not history.stage or stage not in history.entered:
        return StageState.AHEAD
    return StageState.HELD if history.held is not None else StageState.UNDER_WAY


def _artifact(history: History) -> ArtifactReport | None:
    remote = history.artifact
    if remote is None:
        return None
    local = history.fetched
    return ArtifactReport(
        remote_path=remote.path,
        remote_size=remote.size,
        remote_sha256=remote.sha256,
        local_path=str(local.path) if local else None,
        local_size=local.size if local else None,
        local_sha256=local.sha256 if local else None,
        verified=history.verified is not None and history.verified == local,
        files=remote.files,
    )


def _instance(history: History) -> InstanceReport | None:
    rental = history.rental
    if rental is None:
        return None
    offer = rental.offer
    return InstanceReport(
        id=plain(rental.instance_id),
        label=rental.label,
        provider=history.job.provider.kind,
        machine=f"{offer.get('num_gpus', '?')}x {offer.get('gpu_name', '?')}",
        usd_per_hour=rental.usd_per_hour,
        rented_at=rental.at,
        stopped=history.instance_stopped,
        destroy_requested=history.destroy_reply is not None,
        gone_at=billing.gone_at(history.records),
        embedded=registry.is_embedded(history.job.provider.kind),
        own=not history.job.is_billed,
    )


def _money(
    history: History, spans: Sequence[billing.PaidSpan], charges: tuple[Charge, ...] | None, now: float
) -> MoneyReport:
    ended = billing.training_ended_at(history)
    idle = (now, now) if ended is None else (ended, now)
    kinds = sorted({charge.kind for charge in charges or ()})
    rate = billing.download_rate(history)
    return MoneyReport(
        usd=billing.usd_within(spans, 0.0, now),
        paid_s=billing.seconds_within(spans, 0.0, now),
        idle_s=billing.seconds_within(spans, *idle),
        idle_usd=billing.usd_within(spans, *idle),
        budget_usd=history.job.limits.budget_usd,
        estimate=_estimate(history.job),
        bytes_per_s=rate,
        line_bytes_per_s=_line(history),
        bytes_s=None if rate is None or history.artifact is None else history.artifact.size / rate,
        parts=paid_parts.parts(history.records, spans),
        predicted=predicted.compared(history),
        image_had=_image_had(history),
        billed=None
        if charges is None
        else tuple(BilledKind(kind, sum(charge.usd for charge in charges if charge.kind == kind)) for kind in kinds),
    )


def _image_had(history: History) -> str:
    found = history.all(ImageHad)
    if not found:
        return ""
    had = ", ".join(f"{name} {version}" for name, version in found[-1].versions.items()) or "none of them"
    return f"the image had {had}; pip was left {', '.join(found[-1].missing) or 'nothing'}"


def _line(history: History) -> float | None:
    """Bytes a second that the rented offer's line can send; None when the offer does not say."""
    mbps = history.rental.offer.get("inet_up_mbps") if history.rental is not None else None
    return mbps * 1e6 / 8 if isinstance(mbps, int | float) and 0 < mbps < 1e9 else None


def _estimate(job: Job) -> str:
    """Plan of time and money; empty for a model whose sizes cannot be predicted."""
    try:
        return estimate.in_words(job)
    except BadInput:
        return ""


def _not_evaluated(history: History) -> str:
    if history.evaluated is not None and history.evaluated.problem:
        return history.evaluated.problem
    return "not yet" if history.job.package.evaluate else "the job file does not ask for it (package.evaluate)"


def _rules(rules: tuple[RuleReport, ...], stages: Sequence[StageReport]) -> tuple[RuleReport, ...]:
    """The rules, each of their checks with what it said in this job."""
    said = {(stage.stage, check.id): check.verdict for stage in stages for check in stage.checks}
    return tuple(
        dataclasses.replace(
            rule,
            checks=tuple(
                dataclasses.replace(one, verdict=said.get((one.stage, CheckId(one.check)))) for one in rule.checks
            ),
        )
        for rule in rules
    )


def _release(history: History, release: Release | None) -> ReleaseReport | None:
    if history.release_path is None or history.release_sha256 is None:
        return None
    return ReleaseReport(history.release_path, history.release_sha256, release)


def _holds(history: History) -> tuple[Hold, ...]:
    held = [(record.at, event) for record in history.records if isinstance(event := decode(record), Held)]
    return tuple(
        Hold(
            at=at,
            stage=event.stage,
            error=event.error,
            reason=event.reason,
            over=history.held is None or number < len(held),
        )
        for number, (at, event) in enumerate(held, start=1)
    )
