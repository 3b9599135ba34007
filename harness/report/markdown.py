"""GOLD_STANDARD.md: the checklist for people, on GitHub as in a terminal. Pure.

Words that may come from the box stand in code spans or fenced blocks, in which nothing has a
meaning, behind fences longer than any run of backticks in them, and never in a table, where a
pipe would. Sentences are escaped character by character.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from harness.artifacts.evaluation import Accuracy
from harness.core.text import human_bytes, human_seconds, printable
from harness.core.verdict import Verdict, worst
from harness.gates.evidence import CheckResult, Sight
from harness.release.statement import Release, rfc3339
from harness.report import standing
from harness.report.model import (
    ArtifactReport,
    EvaluationReport,
    InstanceReport,
    MoneyReport,
    Report,
    RuleReport,
    StageReport,
)

_BOXES = {Verdict.PASS: "[x]", Verdict.UNKNOWN: "[?]", Verdict.FAIL: "[ ]"}
_SPECIAL = re.compile(r"([\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
"""Openers of emphasis, code, a link, a cell or a formula inside a line; an underscore inside a word is none."""

_LONG_RUN = re.compile(r"`+")


def render(report: Report) -> str:
    """The whole report."""
    parts = [
        [
            f"# Gold standard: {words(report.job)}",
            "",
            f"> **{report.standing.upper()}.** {words(report.headline)}",
        ],
        [">", f"> {words(report.safety)}", ">", f"> Next: {code(report.next_step)}", ""],
        _shut(report.stages),
        _section("Stages", _table(report.stages)),
        _section("Model file", _artifact(report.artifact)),
        _section("Money", _money(report.money, report.instance)),
        _section("Evaluation", _evaluation(report.evaluation)) if report.evaluation else (),
        _section("Release statement", _release(report)),
        ["## Checklist", "", "`[x]` passed · `[ ]` failed, or not judged yet · `[?]` could not look", ""],
        *(_stage(stage) for stage in report.stages),
        _section("Rules of the first user's documents", _rules(report.rules)) if report.rules else (),
        _section("What was held, and why", _holds(report)) if report.holds else (),
        _section("Timeline", _timeline(report)),
        [f"Written {_time(report.written_at)} from event {report.log_seq} of the log, {code(report.log_digest)}."],
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def words(text: str) -> str:
    """A sentence in which nothing is markup, HTML or a link, on one line."""
    flat = " ".join(printable(text).split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", flat).replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def code(text: str) -> str:
    """A stranger's words on one line, in which nothing has a meaning."""
    flat = " ".join(printable(text).split()) or "(empty)"
    fence = "`" * (_longest_run(flat) + 1)
    pad = " " if "`" in (flat[0], flat[-1]) else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


def _block(text: str, indent: str) -> Iterator[str]:
    """A stranger's words on several lines."""
    cleaned = printable(text, 4000)
    fence = "`" * max(3, _longest_run(cleaned) + 1)
    yield f"{indent}{fence}text"
    yield from (f"{indent}{line.expandtabs(4)}" for line in cleaned.splitlines())
    yield f"{indent}{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in _LONG_RUN.findall(text)), default=0)


def _shut(stages: Sequence[StageReport]) -> Iterator[str]:
    """Reasons that keep the current gate shut; they come first, being why somebody reads this."""
    current = standing.current(stages)
    if current is None or not (current.shut or current.problems):
        return
    checks = (line for check in current.shut for line in _check(check))
    problems = (f"- [?] {code(problem)}" for problem in current.problems)
    yield from _section(f"What keeps {current.stage} shut", chain(checks, problems))


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield from lines
    yield ""


def _table(stages: Sequence[StageReport]) -> Iterator[str]:
    yield "| stage | gate | checks | time | cost |"
    yield "|---|---|---:|---:|---:|"
    for stage in stages:
        required = len(stage.checks) + len(stage.silent)
        state = stage.state.value if stage.verdict is None else f"{stage.state.value} ({stage.verdict.name})"
        checks = f"{stage.passed}/{required}"
        yield f"| {stage.stage} | {state} | {checks} | {_duration(stage.seconds)} | {_usd(stage.usd)} |"


def _artifact(artifact: ArtifactReport | None) -> Iterator[str]:
    if artifact is None:
        yield "No model file has been recorded on the box yet."
    else:
        yield f"- on the box: {code(artifact.remote_path)}, {_size(artifact.remote_size)}"
        yield f"  - SHA-256 {code(artifact.remote_sha256)}"
        if artifact.local_path is None or artifact.local_size is None or artifact.local_sha256 is None:
            yield "- here: not yet"
        else:
            yield f"- here: {code(artifact.local_path)}, {_size(artifact.local_size)}"
            yield f"  - SHA-256 {code(artifact.local_sha256)}"
            yield f"- {_equal(artifact)}"


def _equal(artifact: ArtifactReport) -> str:
    if (artifact.local_sha256, artifact.local_size) != (artifact.remote_sha256, artifact.remote_size):
        return "**The two are NOT the same file.**"
    return (
        "The same at both ends, and **verified**." if artifact.verified else "The same at both ends, not verified yet."
    )


def _money(money: MoneyReport, instance: InstanceReport | None) -> Iterator[str]:
    if money.estimate:
        yield f"- planned: {money.estimate}"
    if instance is None:
        yield "Nothing was rented."
        return
    gone = "still there" if instance.gone_at is None else f"gone, asked to go {_time(instance.gone_at)}"
    yield f"- instance {instance.id} ({code(instance.label)}) at {words(instance.provider)}: {gone}"
    yield f"- {words(instance.machine)} at ${instance.usd_per_hour:.2f}/h, rented {_time(instance.rented_at)}"
    if instance.embedded:
        yield "- the provider is embedded: all of this is reckoned, and no real money was paid"
    yield f"- {human_seconds(money.paid_s)} paid: ${money.usd:.2f} of a budget of ${money.budget_usd:.2f}"
    share = money.idle_s / money.paid_s if money.paid_s else 0.0
    yield f"- paid after the training had ended: {human_seconds(money.idle_s)}, ${money.idle_usd:.2f} ({share:.0%})"
    if money.bytes_s is not None and money.bytes_per_s is not None and money.waste is not None:
        alone = f"{human_seconds(money.bytes_s)} at {human_bytes(money.bytes_per_s)}/s"
        yield f"  - the artifact's bytes alone need {alone}; {money.waste:.0%} went on everything else"
    if money.billed is None or money.billed_usd is None:
        yield "- the provider's own bill was not asked for"
    else:
        kinds = ", ".join(f"{words(one.kind)} ${one.usd:.3f}" for one in money.billed) or "no charge is listed yet"
        yield f"- billed by the provider: ${money.billed_usd:.3f} ({kinds})"


def _evaluation(evaluation: EvaluationReport) -> Iterator[str]:
    if evaluation.missing:
        yield f"The model was not evaluated: {code(evaluation.missing)}"
    for kind, found in evaluation.decisions.items():
        beside = f"the majority class alone {_share(found.majority)}, the base model {_share(found.base)}"
        yield f"- {code(kind)}: {_share(found.trained)} of {found.rows} later rows decided right; {beside}"
        beats = "its whole interval lies above" if found.beats_majority else "it is not shown to be better than"
        yield f"  - {beats} the majority class"
        yield from (f"  - doubt: {code(doubt)}" for doubt in found.doubts)
        if not found.doubts:
            yield "  - the package's leak scan found nothing to doubt"


def _share(found: Accuracy) -> str:
    return f"{found.accuracy:.1%} (95 % interval {found.low:.1%} to {found.high:.1%})"


def _rules(rules: Sequence[RuleReport]) -> Iterator[str]:
    for rule in rules:
        verdicts = [one.verdict for one in rule.checks]
        known = [verdict for verdict in verdicts if verdict is not None]
        box = "[ ] " if len(known) < len(verdicts) else f"{_BOXES[worst(known)]} " if known else ""
        checks = ", ".join(
            f"{code(f'{one.stage}/{one.check}')} {'not judged' if one.verdict is None else one.verdict.name}"
            for one in rule.checks
        )
        told = [f"- {box}{words(rule.document)}, **{words(rule.rule)}** ({words(rule.words)})", checks]
        yield ": ".join(part for part in told if part)
        if rule.differs:
            yield f"  - differs: {words(rule.differs)}"


def _release(report: Report) -> Iterator[str]:
    release = report.release
    if release is None:
        yield "None: nothing may be destroyed."
    else:
        yield f"- {code(release.path)}"
        yield f"  - SHA-256 {code(release.sha256)}"
        if release.statement is not None:
            yield from _statement(release.statement)


def _statement(release: Release) -> Iterator[str]:
    instance = f"instance {release.instance_id} ({code(release.label)}) at {words(release.provider)}"
    yield f"- {instance} may go for the sake of {code(release.name)}, SHA-256 {code(release.sha256)}"
    yield f"- issued {_time(release.issued)}, expires {_time(release.expires)}, at event {release.log.seq} of the log"


def _stage(stage: StageReport) -> Iterator[str]:
    when = _time(stage.entered_at) if stage.entered_at is not None else ""
    told = [stage.state.value, when, _duration(stage.seconds), _usd(stage.usd)]
    yield f"### {stage.stage}: " + ", ".join(part for part in told if part)
    yield ""
    for check in stage.checks:
        yield from _check(check)
    word = "not judged yet" if stage.verdict is None else "**UNKNOWN**: it did not report"
    box = "[ ]" if stage.verdict is None else "[?]"
    yield from (f"- {box} {code(check)}: {word}" for check in stage.silent)
    yield from (f"- [?] **UNKNOWN**: {code(problem)}" for problem in stage.problems)
    if stage.left_out:
        yield ""
        yield "Left out of this job's plan: " + ", ".join(code(check) for check in stage.left_out)
    if stage.facts_path is not None and stage.facts_sha256 is not None and stage.plan_digest is not None:
        yield ""
        yield f"Facts {code(stage.facts_path)}, SHA-256 {code(stage.facts_sha256)}; plan {code(stage.plan_digest)}"
    yield ""


def _check(check: CheckResult) -> Iterator[str]:
    shout = "" if check.verdict is Verdict.PASS else f"**{check.verdict.name}** "
    yield f"- {_BOXES[check.verdict]} {shout}{code(check.id)}: {words(check.claim)}"
    yield from _sights("saw", check.saw)
    if check.verdict is Verdict.PASS:
        return
    yield from _sights("expected", check.expected)
    if check.message:
        yield "  - because"
        yield ""
        yield from _block(check.message, "    ")
        yield ""
    if check.remedy:
        yield f"  - next: {code(check.remedy)}"


def _sights(label: str, sights: Iterable[Sight]) -> Iterator[str]:
    told = [f"{code(sight.name)} = {code(sight.value)}" for sight in sights]
    if told:
        yield f"  - {label} " + "; ".join(told)


def _holds(report: Report) -> Iterator[str]:
    for hold in report.holds:
        now = "" if hold.over else " **(now)**"
        yield f"- {_time(hold.at)} {code(hold.stage)} {code(hold.error)}{now}: {code(hold.reason)}"


def _timeline(report: Report) -> Iterator[str]:
    for moment in report.timeline:
        times = f" ({moment.times} times)" if moment.times > 1 else ""
        yield f"- {_time(moment.at)} {code(moment.text)}{times}"


def _time(moment: float) -> str:
    return rfc3339(moment).replace("T", " ").replace("Z", " UTC")


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else human_seconds(seconds)


def _usd(usd: float | None) -> str:
    return "" if usd is None else f"${usd:.2f}"


def _size(size: int) -> str:
    return f"{human_bytes(size)} ({size} bytes)"
