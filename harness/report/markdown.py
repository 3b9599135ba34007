"""GOLD_STANDARD.md: what a person reads, on GitHub as in a terminal; the JSON form holds the rest. Pure.

Words that may come from the box stand in code spans or fenced blocks, in which nothing has a
meaning, behind fences longer than any run of backticks in them. Sentences are escaped character by
character. Both are cut to a line's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from harness.artifacts.evaluation import Accuracy
from harness.core.money import OWN
from harness.core.text import one_line, printable
from harness.core.verdict import Verdict
from harness.gates.evidence import CheckResult, Sight
from harness.ledger.predicted import ForetoldPart
from harness.release.statement import Release
from harness.report import numbers, standing
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
_VERDICT, _SENTENCE, _NAME, _MOMENT, _LINES = 600, 160, 70, 220, 40
"""Characters of a sentence of the verdict, of another, of one of several names on a line and of a moment; lines of a
text; all at most."""

_MOMENTS = 60
"""Moments of the timeline, at most: of a longer one the first and the last."""


def render(report: Report) -> str:
    """The whole report."""
    parts = [
        [
            f"# Gold standard: {words(report.job)}",
            "",
            f"> **{report.standing.upper()}.** {words(report.headline, _VERDICT)}",
        ],
        [">", f"> {words(report.safety, _VERDICT)}", ">", f"> Next: {path(report.next_step)}", ""],
        _glance(report),
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
        [
            f"Written {numbers.moment(report.written_at)} at event {report.log_seq} of the log,",
            f"{path(report.log_digest)}.",
            "All evidence is in `GOLD_STANDARD.json`, and folded in `GOLD_STANDARD.html`.",
        ],
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def words(text: str, most: int = _SENTENCE) -> str:
    """A sentence in which nothing is markup, HTML or a link, on one line, cut to its length."""
    flat = _cut(one_line(text, 2000), most)
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", flat).replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def code(text: str, most: int = _SENTENCE) -> str:
    """A stranger's words on one line, in which nothing has a meaning, cut to a line's length."""
    return path(_cut(one_line(text, 2000), most))


def path(text: str) -> str:
    """A path, a digest or a command on one line, whole, in which nothing has a meaning."""
    flat = one_line(text, 2000) or "(empty)"
    marks = "`" * (_longest_run(flat) + 1)
    pad = " " if "`" in (flat[0], flat[-1]) else ""
    return f"{marks}{pad}{flat}{pad}{marks}"


def _block(text: str, indent: str) -> Iterator[str]:
    """A stranger's words on several lines."""
    cleaned = printable(text, 4000)
    behind = fence(cleaned)
    lines = cleaned.splitlines()
    yield f"{indent}{behind}text"
    yield from (f"{indent}{_cut(line.expandtabs(4), _SENTENCE)}" for line in lines[:_LINES])
    if len(lines) > _LINES:
        yield f"{indent}({len(lines) - _LINES} lines more)"
    yield f"{indent}{behind}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def fence(text: str) -> str:
    """First and last line of a block, so that nothing in the text ends it."""
    return "`" * max(3, _longest_run(text) + 1)


def _longest_run(text: str) -> int:
    return max((len(run) for run in _LONG_RUN.findall(text)), default=0)


def _glance(report: Report) -> Iterator[str]:
    """The numbers that a person asks for first."""
    money, artifact, instance = report.money, report.artifact, report.instance
    yield "| at a glance | |"
    yield "|---|---|"
    yield f"| checks | {report.passed} of {report.required} passed |"
    idle = f", {numbers.duration(money.idle_s)} of it idle" if money.idle_s else ""
    paid = f"{numbers.duration(money.paid_s)} paid{idle}"
    spent = f"{numbers.usd(money.usd)} of {numbers.usd(money.budget_usd)}; {paid}"
    yield f"| money | {OWN if instance is not None and instance.own else spent} |"
    verified = "verified" if artifact is not None and artifact.verified else "not verified"
    yield f"| model file | {'none yet' if artifact is None else f'{numbers.size(artifact.remote_size)}, {verified}'} |"
    yield f"| instance | {'none' if instance is None else f'{instance.id}, {_there(instance)}'} |"
    yield ""


def _there(instance: InstanceReport) -> str:
    """State of the instance: gone, stopped or billing."""
    if instance.gone_at is not None:
        return f"gone, asked to go {numbers.moment(instance.gone_at)}"
    return "still there, stopped: its disk is billed" if instance.stopped else "still there"


def _shut(stages: Sequence[StageReport]) -> Iterator[str]:
    """Reasons that keep the current gate shut; they come first, being why somebody reads this."""
    current = standing.current(stages)
    if current is None or not (current.shut or current.problems):
        return
    yield from _section(f"What keeps {current.stage} shut", _reasons(current))


def _reasons(stage: StageReport) -> Iterator[str]:
    yield from chain.from_iterable(_check(check) for check in stage.shut)
    yield from (f"- [?] **UNKNOWN** {code(problem)}" for problem in stage.problems)


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield from lines
    yield ""


def _table(stages: Sequence[StageReport]) -> Iterator[str]:
    yield "| stage | gate | checks | time | cost |"
    yield "|---|---|---:|---:|---:|"
    for stage in stages:
        state = stage.state.value if stage.verdict is None else f"{stage.state.value} ({stage.verdict.name})"
        checks = f"{stage.passed}/{stage.required}"
        cells = (stage.stage, state, checks, numbers.duration(stage.seconds), numbers.usd(stage.usd))
        yield f"| {' | '.join(cells)} |"


def _artifact(artifact: ArtifactReport | None) -> Iterator[str]:
    if artifact is None:
        yield "No model file has been recorded on the box yet."
    else:
        yield f"- on the box: {path(artifact.remote_path)}, {_size(artifact.remote_size)}"
        yield f"  - SHA-256 {path(artifact.remote_sha256)}"
        if artifact.local_path is None or artifact.local_size is None or artifact.local_sha256 is None:
            yield "- here: not yet"
        else:
            yield f"- here: {path(artifact.local_path)}, {_size(artifact.local_size)}"
            yield f"  - SHA-256 {path(artifact.local_sha256)}"
            yield f"- {_equal(artifact)}"
            yield "- check it yourself: `sha256sum FILE`, in PowerShell `(Get-FileHash FILE).Hash`"
        if artifact.files:
            yield f"- {len(artifact.files)} files; the SHA-256 above is that of their manifest (docs/release.md)"
            yield from (
                f"  - {path(one.path)}, {_size(one.size)}, SHA-256 {path(one.sha256)}" for one in artifact.files
            )


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
        yield "- nothing was rented"
        return
    yield f"- instance {instance.id} ({code(instance.label, _NAME)}) at {words(instance.provider)}: {_there(instance)}"
    price = "claimed" if instance.own else f"at {numbers.per_hour(instance.usd_per_hour)}, rented"
    yield f"- {words(instance.machine)} {price} {numbers.moment(instance.rented_at)}"
    if instance.own:
        yield f"- {OWN}"
        return
    if instance.embedded:
        yield "- the provider is embedded: all of this is reckoned, and no real money was paid"
    paid = f"{numbers.usd(money.usd)} of a budget of {numbers.usd(money.budget_usd)}"
    yield f"- {numbers.duration(money.paid_s)} paid: {paid}"
    share = numbers.share(money.idle_s / money.paid_s if money.paid_s else 0.0)
    idle = f"{numbers.duration(money.idle_s)}, {numbers.usd(money.idle_usd)} ({share})"
    yield f"- paid after the training had ended: {idle}"
    if money.image_had:
        yield f"- {words(money.image_had, _VERDICT)}"
    if money.bytes_s is not None and money.bytes_per_s is not None and money.waste is not None:
        alone = f"{numbers.duration(money.bytes_s)} at {numbers.rate(money.bytes_per_s)}"
        yield f"  - the artifact's bytes alone need {alone}; {numbers.share(money.waste)} went on everything else"
    if money.billed is None or money.billed_usd is None:
        yield "- the provider's own bill was not asked for"
    else:
        kinds = ", ".join(f"{words(one.kind)} {numbers.usd(one.usd)}" for one in money.billed)
        yield f"- billed by the provider: {numbers.usd(money.billed_usd)} ({kinds or 'no charge is listed yet'})"
    if money.parts:
        yield from ("", "| paid for | time | share | cost |", "|---|---:|---:|---:|")
    for part in money.parts:
        of_paid = numbers.share(part.seconds / money.paid_s) if part.running and money.paid_s else ""
        yield f"| {cell(part.name)} | {numbers.duration(part.seconds)} | {of_paid} | {numbers.usd(part.usd)} |"
    yield from _predicted(money.predicted)


def _predicted(told: Sequence[ForetoldPart]) -> Iterator[str]:
    """The parts that went through beside what the plan that was agreed to foretold of each."""
    if told:
        yield from ("", "| as agreed to | predicted | took | off by | known from |", "|---|---:|---:|---:|---|")
    for one in told:
        times = f"{numbers.duration(one.predicted)} | {numbers.duration(one.took)} | {numbers.share(one.error)}"
        yield f"| {cell(one.name)} | {times} | {cell(one.source)} |"


def _evaluation(evaluation: EvaluationReport) -> Iterator[str]:
    if evaluation.missing:
        yield f"The model was not evaluated: {code(evaluation.missing)}"
    for kind, found in evaluation.decisions.items():
        yield f"- {code(kind, _NAME)}: {_share(found.trained)} of {found.rows:,} later rows decided right"
        yield f"  - beside it the majority class alone {_share(found.majority)}, the base model {_share(found.base)}"
        beats = "its whole interval lies above" if found.beats_majority else "it is not shown to be better than"
        yield f"  - {beats} the majority class"
        yield from (f"  - doubt: {code(doubt)}" for doubt in found.doubts)
        if not found.doubts:
            yield "  - the package's leak scan found nothing to doubt"


def _share(found: Accuracy) -> str:
    return f"{numbers.share(found.accuracy)} (95 % interval {numbers.share(found.low)} to {numbers.share(found.high)})"


def _rules(rules: Sequence[RuleReport]) -> Iterator[str]:
    """How many rules are kept; the others one by one, each with the checks that did not pass."""
    told = [(rule, rule.verdict) for rule in rules]
    kept = sum(verdict is Verdict.PASS for _, verdict in told)
    others = " The others:" if kept < len(told) else ""
    yield f"{kept} of {len(told)} rules are kept by checks that passed in this job.{others}"
    yield ""
    for rule, verdict in told:
        if verdict is Verdict.PASS:
            continue
        box = (f"{_BOXES[verdict]} " if verdict else "[ ] ") if rule.checks else ""
        yield f"- {box}{words(rule.document)}, **{words(rule.rule)}** ({words(rule.words)})"
        open_ones = [one for one in rule.checks if one.verdict is not Verdict.PASS]
        for one in open_ones[:3]:
            yield f"  - {code(f'{one.stage}/{one.check}')} {one.verdict.name if one.verdict else 'not judged'}"
        if len(open_ones) > 3:
            yield f"  - and {len(open_ones) - 3} checks more"
        if rule.differs:
            yield f"  - differs: {words(rule.differs)}"
    if tried := [rule.tried for rule in rules if rule.tried]:
        yield ""
        yield "Tried again:"
        yield ""
        yield from (f"- {words(one)}" for one in tried)


def _release(report: Report) -> Iterator[str]:
    release = report.release
    if release is None:
        yield "None: nothing may be destroyed."
    else:
        yield f"- {path(release.path)}"
        yield f"  - SHA-256 {path(release.sha256)}"
        if release.statement is not None:
            yield from _statement(release.statement)


def _statement(release: Release) -> Iterator[str]:
    instance = f"instance {release.instance_id} ({code(release.label, _NAME)}) at {words(release.provider)}"
    yield f"- {instance} may go for the sake of {path(release.name)}"
    yield f"  - SHA-256 {path(release.sha256)}"
    until = f"expires {numbers.moment(release.expires)}"
    yield f"- issued {numbers.moment(release.issued)}, {until}, at event {release.log.seq} of the log"


def _stage(stage: StageReport) -> Iterator[str]:
    """A table of the stage's checks, then the evidence of those that did not pass."""
    when = "" if stage.entered_at is None else numbers.moment(stage.entered_at)
    told = [stage.state.value, when, numbers.duration(stage.seconds), numbers.usd(stage.usd)]
    yield f"### {stage.stage}: " + ", ".join(part for part in told if part)
    yield ""
    if stage.checks or stage.silent:
        yield "| | check | claim |"
        yield "|---|---|---|"
    for check in stage.checks:
        yield f"| `{_BOXES[check.verdict]}` | {cell(check.id)} | {words(check.claim)} |"
    box, word = ("`[ ]`", "not judged yet") if stage.verdict is None else ("`[?]`", "UNKNOWN: it did not report")
    yield from (f"| {box} | {cell(check)} | {word} |" for check in stage.silent)
    if stage.shut or stage.problems:
        yield ""
        yield from _reasons(stage)
    if stage.left_out:
        yield ""
        yield "Left out of this job's plan:"
        yield ""
        yield from (f"- {code(check)}: {words(why)}" for check, why in stage.left_out.items())
    yield ""


def cell(name: str) -> str:
    """A name in a table, where a pipe has a meaning even in a code span."""
    return code(name).replace("|", "\\|")


def _check(check: CheckResult) -> Iterator[str]:
    shout = "" if check.verdict is Verdict.PASS else f"**{check.verdict.name}** "
    yield f"- {_BOXES[check.verdict]} {shout}{code(check.id)}: {words(check.claim)}"
    yield from _sights("saw", check.saw)
    yield from _sights("expected", check.expected)
    if check.message:
        yield "  - because"
        yield ""
        yield from _block(check.message, "    ")
        yield ""
    if check.remedy:
        yield f"  - next: {path(check.remedy)}"


def _sights(label: str, sights: Iterable[Sight]) -> Iterator[str]:
    for sight in sights:
        yield f"  - {label} {code(sight.name, _NAME)} = {code(sight.value, 2 * _NAME - 40)}"


def _holds(report: Report) -> Iterator[str]:
    for hold in report.holds:
        still = "" if hold.over else " **(still)**"
        yield f"- {numbers.moment(hold.at)} {code(hold.stage, _NAME)} {code(hold.error, _NAME)}{still}"
        yield f"  - {words(hold.reason)}"


def _timeline(report: Report) -> Iterator[str]:
    half = _MOMENTS // 2
    gap = len(report.timeline) - 2 * half
    for index, moment in enumerate(report.timeline):
        if gap > 0 and half <= index < half + gap:
            if index == half:
                yield f"- ({gap} moments are left out here)"
            continue
        times = f" ({moment.times} times)" if moment.times > 1 else ""
        yield f"- {numbers.moment(moment.at)} {code(moment.text, _MOMENT)}{times}"


def _size(size: int) -> str:
    return f"{numbers.size(size)} ({numbers.exactly(size)})"
