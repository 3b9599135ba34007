"""Which job is meant, where it is not named, and what a bundle is judged by."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.lifecycle import Stage
from harness.gates import plan
from harness.gates.facts_file import digest
from harness.job.model import Job
from harness.ledger import bundle
from harness.ledger.events import GateJudged, Opened
from harness.ledger.imported import Imported
from harness.ledger.sql import open_store
from harness.ledger.store import EventStore
from tests.support.facts import facts_file, sound_job
from tests.support.gate_project import Project, project
from tests.support.job_histories import Log, events_of

pytest_plugins = ["pytester"]

BUILT_IN = str(plan.FOLDER)
USAGE = pytest.ExitCode.USAGE_ERROR


@pytest.fixture
def mine(pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    made = project(pytester)
    made.write("conftest.py", "def pytest_harness_look(stage, job):\n    return {'answer': 42, 'question': job.name}\n")
    return made


def _none(home: Path) -> EventStore:
    return open_store(home / "state.db", SystemClock())


def _open(home: Path, *names: str) -> None:
    store = open_store(home / "state.db", SystemClock())
    for name in names:
        job = sound_job().model_copy(update={"name": name})
        store.append(job.name, Opened(job=job.model_dump(mode="json"), file="job.toml"))


def test_the_only_job_need_not_be_named_and_one_of_several_must_be(mine: Project, tmp_path: Path) -> None:
    _open(tmp_path / "home", "night")
    said = mine.judge()
    assert said.status == 0, said.output
    assert "job night, stage mine" in said.output
    _open(tmp_path / "home", "day")
    said = mine.judge()
    assert (said.status, said.gate) == (USAGE, None)
    assert "which job is meant? There are day, night" in said.output
    assert "next: Name it: --job=NAME" in said.output
    for name in ("day", "night"):
        said = mine.judge(f"--job={name}")
        assert said.status == 0, said.output
        assert f"job {name}, stage mine" in said.output


def _bundle(folder: Path, *stages: Stage, job: Job | None = None) -> Path:
    """A closed job's bundle with the evidence of some stages; the log names it by a path of Windows."""
    job = job or sound_job()
    evidence = folder / "job" / "evidence"
    evidence.mkdir(parents=True)
    log = Log(job)
    for event in events_of(Log(job).closed().records)[1:]:
        if isinstance(event, GateJudged) and event.stage in stages:
            data = facts_file(event.stage, job=job).dump()
            (evidence / f"{event.stage}-7.json").write_bytes(data)
            path = rf"C:\Users\me\.harness\jobs\night\evidence\{event.stage}-7.json"
            log.add(dataclasses.replace(event, facts_path=path, facts_sha256=digest(data)))
        else:
            log.add(event)
    bundle.write(folder / "b.zip", log.history, folder / "job")
    return folder / "b.zip"


def test_a_stage_is_judged_by_what_its_gate_saw(mine: Project, tmp_path: Path) -> None:
    file = _bundle(tmp_path, Stage.LAUNCH)
    said = mine.judge(f"--bundle={file}", stage="launch", folder=BUILT_IN)
    assert said.status == 0, said.output
    assert said.gate is not None
    assert said.gate["facts_recorded"].endswith("the world is not looked at")
    assert "nobody is asked" in said.output.splitlines()[0]
    assert not list((tmp_path / "home").iterdir())


@pytest.mark.parametrize("stage", ["launch", "preflight", "teardown", "postdownload"])
def test_a_stage_whose_evidence_is_not_in_the_bundle_is_unknown(mine: Project, tmp_path: Path, stage: str) -> None:
    """Above all it is not looked at here, where another package, account and disk would answer."""
    said = mine.judge(f"--bundle={_bundle(tmp_path)}", stage=stage, folder=BUILT_IN)
    assert said.status == 1, said.output
    assert set(said.verdicts().values()) == {"unknown"}
    assert "cannot be read" in said.output


def test_an_imported_job_is_judged_by_its_name(mine: Project, tmp_path: Path) -> None:
    home = tmp_path / "home"
    imported = Imported(home / "imported")
    assert imported.bring(_bundle(tmp_path, Stage.LAUNCH, Stage.POSTDOWNLOAD), _none(home)).job == sound_job().name
    said = mine.judge(stage="launch", folder=BUILT_IN)
    assert said.status == 0, said.output
    assert "nobody is asked" in said.output.splitlines()[0]
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    told = (f"--job={sound_job().name}", f"--artifact={tmp_path / 'model.gguf'}")
    said = mine.judge(*told, stage="postdownload", folder=BUILT_IN)
    assert said.verdicts()["local_sha256_equals_remote"] == "fail"
    assert said.verdicts()["companions_downloaded"] == "pass"


def test_an_imported_job_beside_another_must_be_named(mine: Project, tmp_path: Path) -> None:
    """A verdict about the job that is here would be taken for one about the job that was sent, or the other way."""
    home = tmp_path / "home"
    Imported(home / "imported").bring(_bundle(tmp_path, Stage.LAUNCH), _none(home))
    _open(home, "day")
    said = mine.judge()
    assert (said.status, said.gate) == (USAGE, None)
    assert f"which job is meant? There are {', '.join(sorted(['day', sound_job().name]))}" in said.output


def test_evidence_that_was_changed_in_the_bundle_is_none(mine: Project, tmp_path: Path) -> None:
    _bundle(tmp_path, Stage.LAUNCH)
    changed = tmp_path / "job" / "evidence" / "launch-7.json"
    changed.write_bytes(changed.read_bytes() + b"\n")
    history = Log(sound_job()).closed().history
    gates = {Stage.LAUNCH: dataclasses.replace(history.gates[Stage.LAUNCH], facts_path=str(changed))}
    bundle.write(tmp_path / "b.zip", dataclasses.replace(history, gates=gates), tmp_path / "job")
    said = mine.judge(f"--bundle={tmp_path / 'b.zip'}", stage="launch", folder=BUILT_IN)
    assert said.status == 1
    assert set(said.verdicts().values()) == {"unknown"}


def test_the_artifact_is_looked_at_and_the_rest_is_as_it_was_seen(mine: Project, tmp_path: Path) -> None:
    file = _bundle(tmp_path, Stage.POSTDOWNLOAD)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    told = (f"--bundle={file}", f"--artifact={tmp_path / 'model.gguf'}")
    said = mine.judge(*told, stage="postdownload", folder=BUILT_IN)
    assert said.status == 1
    verdicts = said.verdicts()
    assert verdicts["local_sha256_equals_remote"] == "fail"
    assert verdicts["companions_downloaded"] == verdicts["second_copy_verified"] == "pass"
    assert said.gate is not None
    assert said.gate["facts_recorded"].endswith("the artifact alone is looked at here, now")


def test_without_a_record_of_the_rest_it_is_unknown(mine: Project, tmp_path: Path) -> None:
    file = _bundle(tmp_path)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    said = mine.judge(
        f"--bundle={file}", f"--artifact={tmp_path / 'model.gguf'}", stage="postdownload", folder=BUILT_IN
    )
    assert said.verdicts()["companions_downloaded"] == "unknown"
    assert "nothing but the artifact is looked at here" in said.output


@pytest.mark.parametrize(("options", "said"), [
    (("--bundle={bundle}", "--job=night"), "leave out --job=night"),
    (("--artifact=model.gguf",), "no job has been run yet"),
    (("--bundle={bundle}", "{facts}"), "the facts of a bundle are its own"),
    (("--bundle=none.zip",), "cannot read the bundle none.zip"),
])  # fmt: skip
def test_options_that_do_not_go_together_are_refused(
    mine: Project, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    given = [word.format(bundle=_bundle(tmp_path), facts=mine.facts()) for word in options[:1]]
    given += [word.format(bundle=tmp_path / "b.zip", facts=mine.facts()) for word in options[1:]]
    ran = mine.judge(*given)
    assert (ran.status, ran.gate) == (USAGE, None)
    assert said in ran.output


def test_a_stage_of_ones_own_is_looked_at_by_its_own_hook(mine: Project, tmp_path: Path) -> None:
    said = mine.judge(f"--bundle={_bundle(tmp_path)}")
    assert said.status == 0, said.output
