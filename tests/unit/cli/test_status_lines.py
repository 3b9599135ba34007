"""``harness status``: what each state says, in how many columns, and that its JSON is of the documented form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness import facts as stages
from harness.cli import status
from harness.core import durable
from harness.core.answers import SessionState
from harness.core.errors import LogDamaged
from harness.core.ids import JobName
from harness.core.lifecycle import Stage
from harness.core.observed import Observed, seen
from harness.facts.training import TrainingFacts
from harness.gates.facts_file import FactsFile
from harness.ledger import rows
from harness.ledger.events import (
    Abandoned,
    GateJudged,
    Held,
    InstanceStarted,
    InstanceStopped,
    Launched,
    Pinned,
    Polled,
    Rented,
    RentIntended,
    StageEntered,
)
from harness.ledger.jobs import Ledger
from harness.ledger.looks import recorded_pace
from harness.ledger.outlook import outlook
from harness.ledger.sql import open_store
from harness.log import summary
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import INSTANCE, LABEL, Log, events_of, gate, job, judged, polled

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = json.loads((ROOT / "docs" / "status.schema.json").read_text(encoding="utf-8"))
LAUNCHED = Launched(("python3", "train.py"), "launch")
TRAINED = (
    "PLAN sft_steps=330 dpo_steps=80 batch_size=32 checkpoint_every=100 lora_r=64 lora_alpha=128 "
    "dtype=bfloat16 world_size=1 device_map=auto devices=cuda:0\n"
    "[sft] step 120/330 (36%) loss=1.25 lr=0.0001 s/step=4.0\n"
)


def training(folder: Path, text: str = TRAINED, **facts: Any) -> Log:
    """A job in mid-training, with the newest look at it written down."""
    log = Log().rented().add(Pinned(("ssh-ed25519 AAAA",), "shown")).add(judged(gate(Stage.PROVISION, job())))
    for stage in (Stage.UPLOAD, Stage.INSTALL):
        log.stage(stage)
    log.add(StageEntered(Stage.LAUNCH)).add(LAUNCHED).add(judged(gate(Stage.LAUNCH, job())))
    log.add(StageEntered(Stage.TRAINING))
    file = folder / "training-1.json"
    durable.write(file, FactsFile("training", log.job, log.at + 590, 1.0, recorded(text, **facts)).dump())
    seen = polled(gate(Stage.TRAINING, job()))
    return log.add(Polled(seen.stage, seen.verdict, seen.plan_digest, seen.result, str(file), "fa" * 32), after=600)


def recorded(text: str, **facts: Any) -> dict[str, Any]:
    """The facts of a look at a training, as JSON; what is not given could not be seen."""
    none: Observed[Any] = Observed(problem="not asked")
    told: dict[str, Any] = {
        "session": seen(SessionState(started=True, alive=True, pid=5, exit_status=None)),
        "log": seen(summary.read(text.encode(), job().data.proof)),
        **dict.fromkeys(("log_age_s", "last_lines", "mirror", "gpus", "disk"), none),
        "checkpoints": {"sft": none, "dpo": none},
        "since_launch_s": 600.0,
        "spent_usd": 4.0,
        **facts,
    }
    return stages.recordable(Stage.TRAINING, TrainingFacts(**told))


def shown(log: Log, width: int | None = None, *, after: float = 60.0) -> list[str]:
    now = log.at + after
    return [*status.lines(rows.row(log.history, now), now, width)]


def test_a_training_says_how_far_it_is_and_what_it_costs(tmp_path: Path) -> None:
    first, *more = shown(training(tmp_path))
    assert first.startswith("night             training 5/9  step 120/410, ")
    assert "20 min 50 s left (1 min 10 s ago)" in first
    assert f"instance {INSTANCE} bills $16.00/h" in first
    assert more == ["  next: harness run night"]


def test_what_was_recorded_of_another_instance_says_nothing_of_this_one(tmp_path: Path) -> None:
    log = training(tmp_path)
    assert recorded_pace(log.history) is not None
    log.add(Abandoned(INSTANCE, {}, {})).rented()
    for stage in (Stage.PROVISION, Stage.UPLOAD, Stage.INSTALL, Stage.LAUNCH):
        log.stage(stage)
    log.add(LAUNCHED)
    assert log.history.stage is Stage.TRAINING
    assert recorded_pace(log.history) is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"not json", None])
def test_a_recorded_look_that_does_not_read_is_left_out(tmp_path: Path, damage: bytes | None) -> None:
    log = training(tmp_path)
    file = tmp_path / "training-1.json"
    file.unlink() if damage is None else file.write_bytes(damage)
    assert recorded_pace(log.history) is None
    assert "step" not in shown(log)[0]


def test_projected_money_falls_to_what_is_spent_as_the_job_goes_on(tmp_path: Path) -> None:
    begun = outlook(Log().history, Log().at)
    assert (begun.spent, begun.cap) == (0.0, job().limits.budget_usd)
    assert begun.projected > 5
    closed = Log().closed()
    over = outlook(closed.history, closed.at + 1e6)
    assert over.projected == over.spent > 0
    log = training(tmp_path)
    seen = recorded_pace(log.history)
    assert seen is not None
    early = outlook(log.history, log.at, seen.pace, log.at - seen.at)
    late = outlook(log.history, log.at + 300, seen.pace, log.at + 300 - seen.at)
    assert late.spent > early.spent
    assert late.projected == pytest.approx(early.projected)


def test_a_stopped_instance_spends_nothing_by_the_hour(tmp_path: Path) -> None:
    log = training(tmp_path).add(InstanceStopped(INSTANCE, "why"))
    assert outlook(log.history, log.at).spent == outlook(log.history, log.at + 1e5).spent
    assert f"instance {INSTANCE} is stopped, its disk bills the provider's storage price" in shown(log)[0]
    assert "16.00/h" not in shown(log)[0]


HELD = Held(Stage.TRAINING, "GateHeld", "at least one check failed, which is said here at some length " * 3)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, width: int) -> None:
    for log in (Log(), Log().rented(), training(tmp_path).add(HELD), Log().closed()):
        lines = shown(log, width)
        assert all(len(line) <= width for line in lines if " " in line.strip())
        assert " ".join(" ".join(lines).split()) == " ".join(" ".join(shown(log)).split())


def test_in_a_pipe_a_job_is_one_line_and_what_belongs_to_it(tmp_path: Path) -> None:
    assert [line.split(":")[0].strip() for line in shown(training(tmp_path).add(HELD))[1:]] == ["held", "next"]


def _states(folder: Path) -> dict[str, Log]:
    return {
        "opened": Log(),
        "renting": Log().add(RentIntended(LABEL, {}, 7)),
        "rented": Log().rented(),
        "training": training(folder),
        "odd loss": training(folder, TRAINED.replace("1.25", "nan")),
        "no step yet": training(folder, TRAINED.splitlines()[0] + "\n"),
        "held": Log().rented().add(HELD),
        "in doubt": Log().add(Held(Stage.PROVISION, "AmbiguousCreate", "lost")),
        "dead": Log().rented().add(Held(Stage.TRAINING, "InstanceDead", "gone")),
        "stopped": Log().rented().add(InstanceStopped(INSTANCE, "why")),
        "home": Log().verified(),
        "closed": Log().closed(),
        "embedded": Log(job(provider={"kind": "emulated"})).rented(),
        "adopted": Log(job().model_copy(update={"adopted": True})),
    }


def test_the_json_is_of_the_documented_form(tmp_path: Path) -> None:
    told = [rows.row(log.history, log.at + 5) for log in _states(tmp_path).values()]
    told.append(rows.row(Log().history, 5.0, forgotten=True))
    told.append(rows.unreadable(JobName("night"), LogDamaged("torn")))
    text = json.dumps(told, allow_nan=False)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads(text), SCHEMA)
    documented = SCHEMA["$defs"]
    for row in told:
        kind = documented["unreadable" if "unreadable" in row else "readable"]
        assert set(row) == set(kind["properties"]) == set(kind["required"])
    assert {row["bills"]["state"] for row in told} <= set(documented["bills"]["properties"]["state"]["enum"])  # type: ignore[index,call-overload]


def test_the_outline_of_a_log_tells_all_that_was_spent(tmp_path: Path) -> None:
    log = Log().rented()
    for _ in range(3):
        log.add(InstanceStopped(INSTANCE, "why"), after=1000).add(InstanceStarted(INSTANCE), after=500)
    log.add(Abandoned(INSTANCE, {}, {}), after=700).rented().add(HELD)
    store = open_store(tmp_path / "state.db", FakeClock())
    clock = store.clock
    assert isinstance(clock, FakeClock)
    for event, record in zip(events_of(log.records), log.records, strict=True):
        clock.turn(record.at - clock.now())
        store.append(JobName("night"), event)
    ledger, now = Ledger(store), log.at + 100
    assert ledger.rows(now) == [ledger.row(JobName("night"), now)]
    assert outlook(log.history, now).spent > 10
    assert len([one for one in log.records if one.kind in {Rented.kind, GateJudged.kind}]) > 2
