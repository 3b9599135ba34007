"""Contents of the gold-standard report as plain values; every rendering is made from these. Pure.

Times are seconds since the epoch, durations seconds, sizes bytes, money USD. Every string
is printable and bounded; each rendering still escapes what its own format gives a meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.artifacts.evaluation import Decisions
from harness.artifacts.parts import ArtifactFile
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict, worst
from harness.gates.evidence import CheckResult
from harness.ledger.paid_parts import PaidPart
from harness.ledger.predicted import ForetoldPart
from harness.release.statement import Release

FORMAT = 1
"""The version of the JSON form; a reader refuses others."""


class JobStanding(StrEnum):
    """State of a job."""

    UNDER_WAY = "under way"
    HELD = "held"
    CLOSED = "closed"
    LOST = "lost"


class StageState(StrEnum):
    """State of a stage."""

    PASSED = "passed"
    HELD = "held"
    UNDER_WAY = "under way"
    AHEAD = "ahead"
    LEFT_OUT = "left out"
    """An adopted job does not go through it: what was true then, nobody has looked at."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """One stage: when, for how long, at what cost, and what each check of its gate said.

    ``verdict`` is that of the last judgement, None before the first. ``silent`` are required
    checks that did not report, of a stage that was not judged yet all that its plan declares.
    """

    stage: Stage
    state: StageState
    verdict: Verdict | None
    entered_at: float | None
    left_at: float | None
    seconds: float | None
    usd: float | None
    checks: tuple[CheckResult, ...]
    silent: tuple[str, ...]
    left_out: Mapping[str, str]
    """Checks that the job's plan does without, and why."""
    problems: tuple[str, ...]
    plan_digest: str | None
    facts_path: str | None
    facts_sha256: str | None
    idle_usd: float | None = None
    """The part of ``usd`` that was paid after the training had ended."""
    judged_at: float | None = None
    """Time of the last judgement."""

    @property
    def required(self) -> int:
        """Number of checks that the plan requires."""
        return len(self.checks) + len(self.silent)

    @property
    def shut(self) -> tuple[CheckResult, ...]:
        """The checks that did not pass, failures first."""
        found = [check for check in self.checks if check.verdict is not Verdict.PASS]
        return tuple(sorted(found, key=lambda check: (check.verdict is not Verdict.FAIL, check.id)))

    @property
    def passed(self) -> int:
        """Number of checks that passed."""
        return len(self.checks) - len(self.shut)


@dataclass(frozen=True, slots=True)
class ArtifactReport:
    """The model at both ends; what was not recorded yet is None.

    ``files`` are those of one that is several, with the SHA-256 on the box, and here once all are verified.
    """

    remote_path: str
    remote_size: int
    remote_sha256: str
    local_path: str | None
    local_size: int | None
    local_sha256: str | None
    verified: bool
    files: tuple[ArtifactFile, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """The rented machine. ``gone_at`` is when its destruction was requested, None unless absence was proven.

    ``embedded``: this machine plays it, and no real money is paid; ``own``: the operator has it, and nobody bills it.
    """

    id: int | str
    label: str
    provider: str
    machine: str
    usd_per_hour: float
    rented_at: float
    stopped: bool
    destroy_requested: bool
    gone_at: float | None
    embedded: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True)
class BilledKind:
    """Sum that the provider billed for one kind of thing."""

    kind: str
    usd: float


@dataclass(frozen=True, slots=True)
class MoneyReport:
    """Cost of the job. ``idle_s`` is paid time between the training's end and the instance's.

    ``bytes_s`` is what the artifact's bytes alone take of it, at the rate at which they came; None until that is known.
    ``usd`` is the rental's price times the time it was rented and not stopped; ``billed`` is the
    provider's own account, None when it was not asked. ``estimate`` tells what was planned, training and whole rental.
    """

    usd: float
    paid_s: float
    idle_s: float
    idle_usd: float
    budget_usd: float
    billed: tuple[BilledKind, ...] | None
    bytes_per_s: float | None = None
    bytes_s: float | None = None
    estimate: str = ""
    line_bytes_per_s: float | None = None
    """What the offer states of the machine's line out; None when it states nothing."""
    parts: tuple[PaidPart, ...] = ()
    """Everything that was paid, by what it went on: in sum ``usd``, and ``paid_s`` of those that ran."""
    predicted: tuple[ForetoldPart, ...] = ()
    """Every part that went through, as the plan that was agreed to foretold it and as it was, and all of them."""
    image_had: str = ""
    """What of the package's requirements the image met, in words; empty while nobody looked."""

    @property
    def waste(self) -> float | None:
        """The share of ``idle_s`` in which the line was not what was waited for."""
        return None if self.bytes_s is None or not self.idle_s else max(0.0, 1 - self.bytes_s / self.idle_s)

    @property
    def billed_usd(self) -> float | None:
        """Everything that the provider billed, None when it was not asked."""
        return None if self.billed is None else sum(one.usd for one in self.billed)


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Decisions of the model by kind of rows, as the package states them; ``missing`` says why there are none."""

    decisions: Mapping[str, Decisions]
    missing: str


Point = tuple[float, float | None]
"""A step or a time, and what was measured there: None where that was no number."""


class Along(StrEnum):
    """Axis of a curve: the steps of a trainer, or time in epoch seconds."""

    STEP = "step"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Line:
    """One measured line, thinned to what a plot has room for."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """A plot's lines; ``missing`` says why there is none."""

    title: str
    unit: str
    along: Along
    lines: tuple[Line, ...]
    missing: str = ""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """Course of the training as it was recorded, and what the package said that it trained with.

    ``source`` names the record that the steps were read from. ``commit`` is empty when the package states none.
    """

    curves: tuple[Curve, ...]
    source: str
    settings: Mapping[str, str]
    versions: Mapping[str, str]
    commit: str = ""


@dataclass(frozen=True, slots=True)
class RuleCheck:
    """A check that keeps a rule, and its verdict in this job: None where it was not judged."""

    stage: Stage
    check: str
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class RuleReport:
    """A rule of the first user's documents in a few of its own words; ``differs`` says where and why it is not kept."""

    document: str
    rule: str
    words: str
    differs: str
    checks: tuple[RuleCheck, ...]
    tried: str = ""
    """The lesson on which the rule rests, with the newest verdict on it."""

    @property
    def verdict(self) -> Verdict | None:
        """Verdict on the rule in this job: the worst of its checks; None where one was not judged, or there is none."""
        known = [one.verdict for one in self.checks if one.verdict is not None]
        return worst(known) if known and len(known) == len(self.checks) else None


@dataclass(frozen=True, slots=True)
class ReleaseReport:
    """The release that the log records; ``statement`` is None when its file was not read."""

    path: str
    sha256: str
    statement: Release | None


@dataclass(frozen=True, slots=True)
class Hold:
    """Something that stood in the job's way. ``over`` when the job has gone on since."""

    at: float
    stage: str
    error: str
    reason: str
    over: bool


@dataclass(frozen=True, slots=True)
class Moment:
    """One event of the log; ``times`` counts equal ones in a row, of which the last is at ``at``."""

    seq: int
    at: float
    kind: str
    text: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class Report:
    """A whole job. ``headline`` says how it stands, ``safety`` what could be lost, ``next_step`` what to do now."""

    job: str
    standing: JobStanding
    headline: str
    safety: str
    next_step: str
    written_at: float
    log_seq: int
    log_digest: str
    stages: tuple[StageReport, ...]
    artifact: ArtifactReport | None
    instance: InstanceReport | None
    money: MoneyReport
    release: ReleaseReport | None
    holds: tuple[Hold, ...]
    timeline: tuple[Moment, ...]
    evaluation: EvaluationReport | None = None
    rules: tuple[RuleReport, ...] = ()
    training: TrainingReport | None = None
    format: int = FORMAT

    @property
    def required(self) -> int:
        """Number of checks that the stages of this job require."""
        return sum(stage.required for stage in self.stages if stage.state is not StageState.LEFT_OUT)

    @property
    def passed(self) -> int:
        """Number of checks that passed."""
        return sum(stage.passed for stage in self.stages)
