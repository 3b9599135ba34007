"""Event logs of jobs as the runner writes them, sealed for real; a test bends one event and sees what follows."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, get_type_hints

from hypothesis import strategies as st

from harness.core.ids import CheckId, InstanceId, JobName, Sha256
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.gates import judge, plan
from harness.gates.evidence import CheckResult, GateResult, Sight
from harness.job.model import Job
from harness.ledger import chain, kinds
from harness.ledger.chain import Record
from harness.ledger.codec import decode, encode
from harness.ledger.events import (
    ArtifactRecorded,
    Closed,
    Confirmed,
    Destroyed,
    DestroyIntended,
    DestroyRequested,
    Fetched,
    GateJudged,
    Guarded,
    Launched,
    Opened,
    Polled,
    Released,
    Rented,
    RentIntended,
    StageEntered,
    Verified,
)
from harness.ledger.history import History, fold
from harness.ledger.kinds import JobEvent

BEGAN = 1_800_000_000.0
KINDS = tuple(kinds.KINDS.values())
JSON_OBJECTS = st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5), max_size=3)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
_IDS = st.one_of(st.integers(1, 2**40), st.from_regex(r"[a-z0-9]{10,14}", fullmatch=True)).map(InstanceId)

NARROWER = {
    "InstanceId": _IDS,
    "float": NUMBERS,
    "float | None": st.none() | NUMBERS,
    "JsonObject": JSON_OBJECTS,
    "JsonObject | None": st.none() | JSON_OBJECTS,
    "tuple[JsonObject, ...]": st.lists(JSON_OBJECTS, max_size=3).map(tuple),
    "tuple[JsonObject, ...] | None": st.none(),  # files must be those that the digest beside them names
}
"""What a field may hold where not every value of its type can be stored."""
INSTANCE = InstanceId(4711)
LABEL = "gsh-night-0a1b2c3d"
SIZE = 8_098_524_992
DIGEST = Sha256("ab" * 32)
REMOTE = "/workspace/vastai_llm_training/models/output/final/forex-r1-v3.Q8_0.gguf"
LOCAL = "/home/me/models/forex-r1-v3.Q8_0.gguf"


def job(**changes: Any) -> Job:
    """The seeds' job, with some tables changed."""
    text = (resources.files("harness.job") / "profiles" / "forex-r1-v3.toml").read_text(encoding="utf-8")
    table: dict[str, Any] = {"name": "night", **tomllib.loads(text)}
    table["package"]["source"] = "/home/me/vastai_llm_training"
    for name, values in changes.items():
        table[name] = {**table.get(name, {}), **values}
    return Job.model_validate(table)


def check(stage: Stage, name: str, verdict: Verdict = Verdict.PASS, **fields: Any) -> CheckResult:
    """One check's result."""
    told: dict[str, Any] = {
        "claim": f"what {name} claims",
        "saw": (Sight("seen", "42"),),
        "message": "" if verdict is Verdict.PASS else "assert 42 == 43",
        "remedy": "" if verdict is Verdict.PASS else "harness run night",
        **fields,
    }
    return CheckResult(id=CheckId(name), stage=stage.value, verdict=verdict, **told)


def gate(stage: Stage, of: Job, *bent: CheckResult, extra: tuple[str, ...] = ()) -> GateResult:
    """A gate on which every check passed but the bent ones."""
    required = plan.required(stage.value, of, [CheckId(name) for name in extra])
    other = {result.id: result for result in bent}
    results = tuple(other.get(name, check(stage, name)) for name in required)
    return GateResult(stage.value, plan.digest(stage.value, required), required, results, seconds=0.5)


def judged(result: GateResult, of: Job | None = None) -> GateJudged:
    """What the runner records of a gate that was judged for a job: by today's demands, when it is not said."""
    return GateJudged(
        stage=Stage(result.stage),
        verdict=result.verdict,
        plan_digest=result.plan_digest,
        result=json.loads(json.dumps(dataclasses.asdict(result))),
        facts_path=f"/home/me/.harness/jobs/night/evidence/{result.stage}.json",
        facts_sha256="fa" * 32,
        demand=judge.demand(result.stage, of or job()),
    )


def polled(result: GateResult) -> Polled:
    """What the runner records of a look in mid-stage."""
    one = judged(result)
    return Polled(one.stage, one.verdict, one.plan_digest, one.result, one.facts_path, one.facts_sha256)


def events_of(records: Iterable[Record]) -> tuple[JobEvent, ...]:
    """The events that a log's records hold, those of unknown kinds left out."""
    return tuple(event for event in map(decode, records) if event is not None)


class Log:
    """Builds a log event by event; ``at`` is the time of the newest."""

    def __init__(self, of: Job | None = None) -> None:
        self.job = of or job()
        self.records: list[Record] = []
        self.at = BEGAN
        self.add(Opened(job=self.job.model_dump(mode="json"), file="/home/me/night.toml"), after=0)

    def add(self, event: JobEvent, *, after: float = 10) -> Log:
        """One more event, some seconds after the last."""
        return self.stored(*encode(event), after=after)

    def stored(self, kind: str, data: Mapping[str, Any], *, after: float = 10) -> Log:
        """One more record, whatever it holds."""
        self.at += after
        self.records.append(chain.seal(chain.head_of(self.records), JobName(self.job.name), self.at, kind, data))
        return self

    def stage(self, stage: Stage, *bent: CheckResult, after: float = 60) -> Log:
        """A stage that was entered and, ``after`` seconds later, judged."""
        self.add(StageEntered(stage=stage), after=1)
        return self.add(judged(gate(stage, self.job, *bent), self.job), after=after)

    def rented(self) -> Log:
        """Preflight passed; provision begun and the instance rented."""
        self.stage(Stage.PREFLIGHT)
        self.add(StageEntered(stage=Stage.PROVISION))
        offer = {"gpu_name": "H100 SXM", "num_gpus": 8, "usd_per_hour": 16.0}
        self.add(RentIntended(LABEL, offer, owner=7))
        return self.add(Rented(INSTANCE, LABEL, offer, usd_per_hour=16.0, owner=7))

    def trained(self) -> Log:
        """Everything up to the training's end, in 40 minutes of training."""
        self.rented().add(judged(gate(Stage.PROVISION, self.job), self.job), after=120)
        for stage in (Stage.UPLOAD, Stage.INSTALL, Stage.LAUNCH):
            self.stage(stage)
        return self.stage(Stage.TRAINING, after=2400)

    def fetched(self, *bent: CheckResult, path: str = LOCAL, size: int = SIZE, sha256: Sha256 = DIGEST) -> Log:
        """The artifact recorded, fetched, judged."""
        self.trained().add(StageEntered(stage=Stage.POSTTRAIN))
        self.add(ArtifactRecorded(path=REMOTE, size=size, sha256=sha256))
        self.add(judged(gate(Stage.POSTTRAIN, self.job), self.job))
        self.add(StageEntered(stage=Stage.POSTDOWNLOAD))
        self.add(Fetched(path, size, sha256, bytes_per_s=None), after=300)
        return self.add(judged(gate(Stage.POSTDOWNLOAD, self.job, *bent), self.job))

    def verified(self, *, path: str = LOCAL, size: int = SIZE, sha256: Sha256 = DIGEST) -> Log:
        """The file verified, teardown entered."""
        self.fetched(path=path, size=size, sha256=sha256)
        self.add(Verified(path=path, size=size, sha256=sha256), after=1)
        return self.add(StageEntered(stage=Stage.TEARDOWN), after=1)

    def closed(self) -> Log:
        """Released, destroyed, proven gone, closed."""
        self.verified().add(Released(path="/home/me/.harness/jobs/night/release-30.json", sha256="cd" * 32))
        self.add(Confirmed(how="typed 4711", instance_id=INSTANCE))
        self.add(Guarded(self.at, INSTANCE, LABEL, "cd" * 32, DIGEST, running=(), remote="unchanged"))
        self.add(DestroyIntended(instance_id=INSTANCE, release="cd" * 32))
        self.add(DestroyRequested(instance_id=INSTANCE, reply="accepted"))
        self.add(Destroyed(instance_id=INSTANCE, absence={}, billing={}), after=70)
        self.add(judged(gate(Stage.TEARDOWN, self.job), self.job))
        return self.add(Closed())

    @property
    def history(self) -> History:
        """The fold of the log."""
        return fold(self.records)


def trained(of: Job | None = None) -> Log:
    """A job whose training was launched and has ended: what is on its instance is of value."""
    log = Log(of).rented().add(Launched(("python3", "train.py"), "launch"))
    for stage in (Stage.PROVISION, Stage.UPLOAD, Stage.INSTALL, Stage.LAUNCH, Stage.TRAINING):
        log.add(judged(gate(stage, log.job), log.job))
    return log


def any_of(kind: type[JobEvent]) -> st.SearchStrategy[JobEvent]:
    """Any event of a kind."""
    hints = get_type_hints(kind)
    drawn = {one.name: NARROWER.get(str(one.type), st.from_type(hints[one.name])) for one in dataclasses.fields(kind)}
    return st.builds(kind, **drawn)
