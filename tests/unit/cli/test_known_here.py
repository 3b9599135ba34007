"""A job that is looked for on this machine by its label's name, before its box is believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.cli.rebuilding import known_here
from harness.core.ids import JobName
from harness.gates.facts_file import FactsFile
from harness.job.model import Job
from harness.ledger.events import Opened
from harness.ledger.jobs import Ledger
from tests.support.context import MemoryStore
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import job

NIGHT = JobName("night")


def _of(base: str) -> Job:
    return job(model={"base": base})


def _evidence(home: Path, name: str, base: str, age_s: int) -> None:
    folder = home / "jobs" / NIGHT / "evidence"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(FactsFile("preflight", _of(base), 0.0, 0.0, {}).dump())
    os.utime(folder / name, (10_000 - age_s, 10_000 - age_s))


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.chdir(tmp_path)
    return Ledger(MemoryStore(FakeClock(10_000.0)), tmp_path / "home" / "jobs")


def test_nothing_is_known_of_a_name_that_nothing_here_has(ledger: Ledger, tmp_path: Path) -> None:
    assert known_here(ledger, tmp_path / "home", NIGHT) is None


def test_the_log_goes_before_the_evidence_and_that_before_a_job_file(ledger: Ledger, tmp_path: Path) -> None:
    home = tmp_path / "home"
    text = 'name = "night"\nprofile = "forex-r1-v3"\n[package]\nsource = "p"\n[training]\nbatch_size = 7\n'
    Path("night.toml").write_text(text, encoding="utf-8")
    found = known_here(ledger, home, NIGHT)
    assert found is not None
    assert (found[0].training.batch_size, found[1]) == (7, "night.toml")
    _evidence(home, "preflight-1.json", "an/older", 100)
    _evidence(home, "upload-2.json", "the/newest", 0)
    (home / "jobs" / NIGHT / "evidence" / "torn.json").write_text("{")
    found = known_here(ledger, home, NIGHT)
    assert found is not None
    assert (found[0].model.base, found[1]) == ("the/newest", "jobs/night/evidence/upload-2.json")
    ledger.store.append(NIGHT, Opened(_of("the/log").model_dump(mode="json"), "night.toml"))
    found = known_here(ledger, home, NIGHT)
    assert found is not None
    assert (found[0].model.base, found[1]) == ("the/log", "the log of job night")
