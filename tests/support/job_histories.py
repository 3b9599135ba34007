"""Event logs of jobs as the runner writes them, sealed for real; a test bends one event and sees what follows."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from harness.core.ids import CheckId, JobName
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.gates import plan
from harness.gates.evidence import CheckResult, GateResult, Sight
from harness.job.model import Job
from harness.ledger import events
from harness.ledger.events import Event
from harness.ledger.history import History, fold

BEGAN = 1_800_000_000.0
INSTANCE = 4711
LABEL = "gsh-night-0a1b2c3d"
SIZE = 8_098_524_992
DIGEST = "ab" * 32
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


def gate_data(result: GateResult) -> dict[str, Any]:
    """The data of a ``gate`` event, as the runner records it."""
    return {
        "stage": result.stage,
        "verdict": result.verdict.value,
        "plan_digest": result.plan_digest,
        "result": json.loads(json.dumps(dataclasses.asdict(result))),
        "facts_path": f"/home/me/.harness/jobs/night/evidence/{result.stage}.json",
        "facts_sha256": "fa" * 32,
    }


class Log:
    """Builds a log event by event; ``at`` is the time of the newest."""

    def __init__(self, of: Job | None = None) -> None:
        self.job = of or job()
        self.events: list[Event] = []
        self.at = BEGAN
        self.add("opened", {"job": self.job.model_dump(mode="json"), "file": "/home/me/night.toml"}, after=0)

    def add(self, kind: str, data: Mapping[str, Any] | None = None, *, after: float = 10) -> Log:
        """One more event, some seconds after the last."""
        self.at += after
        head = events.head_of(self.events)
        self.events.append(events.seal(head, JobName(self.job.name), self.at, kind, dict(data or {})))
        return self

    def stage(self, stage: Stage, *bent: CheckResult, after: float = 60) -> Log:
        """A stage that was entered and, ``after`` seconds later, judged."""
        self.add("stage", {"stage": stage.value}, after=1)
        return self.add("gate", gate_data(gate(stage, self.job, *bent)), after=after)

    def rented(self) -> Log:
        """Preflight passed; provision begun and the instance rented."""
        self.stage(Stage.PREFLIGHT)
        self.add("stage", {"stage": "provision"})
        offer = {"gpu_name": "H100 SXM", "num_gpus": 8, "usd_per_hour": 16.0}
        self.add("rent_intended", {"label": LABEL, "offer": offer})
        rented = {"instance_id": INSTANCE, "label": LABEL, "offer": offer, "usd_per_hour": 16.0, "owner": 7}
        return self.add("rented", rented)

    def trained(self) -> Log:
        """Everything up to the training's end, in 40 minutes of training."""
        self.rented().add("gate", gate_data(gate(Stage.PROVISION, self.job)), after=120)
        for stage in (Stage.UPLOAD, Stage.INSTALL, Stage.LAUNCH):
            self.stage(stage)
        return self.stage(Stage.TRAINING, after=2400)

    def fetched(self, *bent: CheckResult, path: str = LOCAL, size: int = SIZE, sha256: str = DIGEST) -> Log:
        """The artifact recorded, fetched, judged."""
        self.trained().add("stage", {"stage": "posttrain"})
        self.add("artifact", {"path": REMOTE, "size": size, "sha256": sha256})
        self.add("gate", gate_data(gate(Stage.POSTTRAIN, self.job)))
        self.add("stage", {"stage": "postdownload"})
        self.add("fetched", {"path": path, "size": size, "sha256": sha256}, after=300)
        return self.add("gate", gate_data(gate(Stage.POSTDOWNLOAD, self.job, *bent)))

    def verified(self, *, path: str = LOCAL, size: int = SIZE, sha256: str = DIGEST) -> Log:
        """The file verified, teardown entered."""
        self.fetched(path=path, size=size, sha256=sha256)
        self.add("verified", {"path": path, "size": size, "sha256": sha256}, after=1)
        return self.add("stage", {"stage": "teardown"}, after=1)

    def closed(self) -> Log:
        """Released, destroyed, proven gone, closed."""
        self.verified().add("released", {"path": "/home/me/.harness/jobs/night/release-30.json", "sha256": "cd" * 32})
        self.add("confirmed", {"how": "typed 4711", "instance_id": INSTANCE})
        self.add("guarded", {"at": self.at, "running": []})
        self.add("destroy_intended", {"instance_id": INSTANCE, "release": "cd" * 32})
        self.add("destroy_requested", {"instance_id": INSTANCE, "reply": "accepted"})
        self.add("destroyed", {"instance_id": INSTANCE, "absence": {}, "billing": {}}, after=70)
        self.add("gate", gate_data(gate(Stage.TEARDOWN, self.job)))
        return self.add("closed")

    @property
    def history(self) -> History:
        """The fold of the log."""
        return fold(self.events)
