"""Every stage of a job that is over: what can be looked at is, what was on the instance is judged as it was seen."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.lifecycle import ADOPTED, ORDER, Stage
from harness.gates.facts_file import digest
from harness.job.model import Job
from harness.ledger.events import GateJudged
from harness.ledger.sql import open_store
from tests.support.facts import facts_file, sound_job
from tests.support.job_histories import Log, events_of

ROOT = Path(__file__).resolve().parents[2]
ON_THE_BOX = (Stage.PROVISION, Stage.UPLOAD, Stage.INSTALL, Stage.LAUNCH, Stage.TRAINING, Stage.POSTTRAIN)
GONE = "is gone: what was on it is judged by what its gates saw then"


def _home(
    folder: Path,
    job: Job,
    spoil: Callable[[Path], object] = lambda _: None,
    *,
    more: tuple[Stage, ...] = (),
    unjudged: tuple[Stage, ...] = (),
) -> Path:
    """A home in which a job is closed, with the evidence of every stage on the box; of ``unjudged`` it has none."""
    evidence = folder / "home" / "jobs" / job.name / "evidence"
    evidence.mkdir(parents=True)
    digests = {}
    for stage in (*ON_THE_BOX, *more):
        data = facts_file(stage if stage in ON_THE_BOX else Stage.LAUNCH, job=job).dump()
        (evidence / f"{stage}.json").write_bytes(data)
        digests[stage] = digest(data)
    store = open_store(folder / "home" / "state.db", SystemClock())
    for event in events_of(Log(job).closed().records):
        if isinstance(event, GateJudged) and event.stage in unjudged:
            continue
        if isinstance(event, GateJudged) and event.stage in digests:
            store.append(job.name, dataclasses.replace(event, facts_sha256=digests[event.stage]))
        else:
            store.append(job.name, event)
    spoil(evidence)
    return folder / "home"


def _judge(home: Path, *options: str) -> tuple[int, str, dict[str, str], dict[str, str | None]]:
    """Exit status, output, and by stage the verdict and the age of recorded facts."""
    verdicts = home / "verdicts.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "checks/",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--verdicts={verdicts}",
        *options,
    ]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAST", "XDG"))}
    env = {**kept, "HARNESS_HOME": str(home), "HOME": str(home)}
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    gates = json.loads(verdicts.read_bytes())["gates"]
    ages = {gate["stage"]: gate["facts_recorded"] for gate in gates}
    return ran.returncode, ran.stdout + ran.stderr, {gate["stage"]: gate["verdict"] for gate in gates}, ages


@pytest.mark.parametrize("workers", [(), pytest.param(("-n2",), marks=pytest.mark.slow)])
def test_all_stages_of_a_closed_job(tmp_path: Path, workers: tuple[str, ...]) -> None:
    status, said, verdicts, ages = _judge(_home(tmp_path, sound_job()), "--stage=all", *workers)
    assert list(verdicts) == list(ORDER)
    assert {stage for stage, verdict in verdicts.items() if verdict == "pass"} == set(ON_THE_BOX), said
    assert {stage for stage, age in ages.items() if age} == set(ON_THE_BOX)
    assert verdicts["postdownload"] == "fail", "its file is not here, and that is looked at"
    assert status == 1
    lines = [line for line in said.splitlines() if line.strip()]
    assert GONE in lines[0]
    assert sum(GONE in line for line in lines) == 2
    assert "there is no" not in said.partition("gate provision")[2].partition("gate posttrain")[0]


def test_one_stage_of_a_closed_job(tmp_path: Path) -> None:
    status, said, verdicts, _ = _judge(_home(tmp_path, sound_job()), "--stage=launch")
    assert (status, verdicts) == (0, {"launch": "pass"}), said
    assert "recorded facts of stage launch, seen " in said


SPOILT: dict[str, Callable[[Path], object]] = {
    "gone": lambda evidence: (evidence / "launch.json").unlink(),
    "another": lambda evidence: (evidence / "launch.json").write_bytes(facts_file(Stage.LAUNCH).dump() + b"\n"),
    "another stage's": lambda evidence: (evidence / "launch.json").write_bytes((evidence / "upload.json").read_bytes()),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_evidence_that_the_log_does_not_name_is_no_evidence(tmp_path: Path, spoil: str) -> None:
    status, said, verdicts, ages = _judge(_home(tmp_path, sound_job(), SPOILT[spoil]), "--stage=launch")
    assert (status, verdicts, ages) == (1, {"launch": "unknown"}, {"launch": None}), said
    assert ("cannot be read" if spoil == "gone" else "the event log names another SHA-256") in said
    assert "0 of " in said.partition("gate launch: HELD (UNKNOWN), ")[2]


def _several(evidence: Path) -> None:
    (evidence / "preflight.json").write_bytes((evidence / "preflight.json").read_bytes().replace(b"0", b"1", 1))
    (evidence / "install.json").unlink()


def test_spoilt_evidence_of_a_closed_job_is_never_replaced_by_a_look(tmp_path: Path) -> None:
    """Also of the package, which could be looked at: it is another one by now."""
    home = _home(tmp_path, sound_job(), _several, more=(Stage.PREFLIGHT,), unjudged=(Stage.UPLOAD,))
    _, said, verdicts, ages = _judge(home, "--stage=all")
    unknown = {"preflight", "upload", "install"}
    assert {stage: verdicts[stage] for stage in unknown} == dict.fromkeys(unknown, "unknown"), said
    assert {stage for stage, age in ages.items() if age} == set(ON_THE_BOX) - unknown
    assert "preflight.json is not what its gate was judged by: the event log names another SHA-256" in said
    assert "its gate was never judged, and the instance is gone" in said
    assert "install.json: No such file" in said
    assert "was judged in job" not in said
    assert {path.name for path in (home / "jobs" / sound_job().name / "evidence").glob("preflight*")} == {
        "preflight.json"
    }
    status, said, verdicts, _ = _judge(home, "--stage=preflight")
    assert (status, verdicts) == (1, {"preflight": "unknown"})
    assert "the event log names another SHA-256" in said


def test_a_package_whose_gate_was_never_judged_is_looked_at_and_that_is_said(tmp_path: Path) -> None:
    home = _home(tmp_path, sound_job(), unjudged=(Stage.PREFLIGHT,))
    _, said, _, ages = _judge(home, "--stage=preflight")
    assert ages == {"preflight": None}
    assert said.count("no gate of preflight was judged in job") == 2
    assert "as things are today" in said


def test_what_nobody_can_look_at_of_an_adopted_job_is_left_out_and_said(tmp_path: Path) -> None:
    job = sound_job().model_copy(update={"adopted": True})
    _, said, verdicts, _ = _judge(_home(tmp_path, job), "--stage=all")
    assert list(verdicts) == list(ADOPTED)
    assert "took its instance over: what preflight, provision, upload, install, launch, training would look at" in said
    status, said, verdicts, _ = _judge(tmp_path / "home", "--stage=launch")
    assert (status, verdicts) == (1, {"launch": "unknown"}), "asked for by its name it is not left out"


def test_a_stage_of_ones_own_beside_all(tmp_path: Path) -> None:
    home = _home(tmp_path, sound_job())
    command = [sys.executable, "-m", "pytest", "checks/", "-q", "-p", "no:cacheprovider", "--stage=all,postdwnload"]
    env = {**os.environ, "HARNESS_HOME": str(home)}
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 4
    assert "no stage is named 'postdwnload'" in ran.stderr
    assert "Did you mean postdownload?" in ran.stderr
