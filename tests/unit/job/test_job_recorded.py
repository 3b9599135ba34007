"""What an earlier version recorded, before a job stated its proof line, still reads and judges as it did then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import BadInput
from harness.core.ids import JobName
from harness.core.verdict import Verdict
from harness.gates.facts_file import read_facts
from harness.job.load import load_job
from harness.job.model import Job
from harness.ledger import chain
from harness.ledger.events import Opened
from harness.ledger.history import fold
from harness.runner import run as runner
from tests.support.context import MemoryStore
from tests.support.facts import judge_file
from tests.support.fake_clock import FakeClock

RECORDED = Path(__file__).parent / "recorded"
SAID = "v2_forex_integration_logged"


def recorded_job() -> dict[str, Any]:
    job: dict[str, Any] = json.loads((RECORDED / "job.json").read_bytes())
    assert "proof_line" not in job["data"]
    assert "prompt" not in job["gates"]
    return job


def test_a_recorded_job_has_the_line_and_the_prompt_that_were_built_in() -> None:
    opened: dict[str, Any] = {"job": recorded_job(), "file": "job.toml"}
    job = fold([chain.seal(chain.EMPTY, JobName("forex-r1-v3"), 1.0, "opened", opened)]).job
    assert job.data.demanded_line == "V2 FOREX INTEGRATION: 15300 SFT + 2550 DPO samples from YOUR data"
    assert job.gates.prompt == "EURUSD"


def test_recorded_facts_are_judged_as_they_were(tmp_path: Path) -> None:
    judged = judge_file(read_facts(RECORDED / "launch.json"))
    asked_since = judged.pop("trained_rows_are_yours")
    assert (asked_since.verdict, "did not digest them" in asked_since.message) == (Verdict.UNKNOWN, True)
    assert {said.verdict for said in judged.values()} == {Verdict.PASS}
    other = (RECORDED / "launch.json").read_text().replace('"sft": 15300', '"sft": 15299')
    (tmp_path / "launch.json").write_text(other)
    said = judge_file(read_facts(tmp_path / "launch.json"))[SAID]
    assert (said.verdict, said.message.split("\n")[0]) == (Verdict.FAIL, "15299 sft + 2550 dpo")


def test_the_job_goes_on_without_a_change(tmp_path: Path) -> None:
    """An unchanged job file changes nothing of a job that an earlier version began."""
    store = MemoryStore(FakeClock(1.0))
    job = Job.model_validate(recorded_job())
    store.append(job.name, Opened(recorded_job(), "job.toml"))
    runner.open_job(store, job, tmp_path / "job.toml", accept_changes=False)
    assert len(store.records(job.name)) == 1


def test_a_command_that_proves_nothing_is_no_change_of_a_job_that_has_begun(tmp_path: Path) -> None:
    """The first user's profile names one; only a job that states a strategy has it."""
    file = tmp_path / "job.toml"
    text = (Path(__file__).parents[3] / "examples" / "forex-r1-v3.toml").read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    job, store = load_job(file), MemoryStore(FakeClock(1.0))
    assert job.package.prove == ()
    earlier = job.model_dump(mode="json")
    del earlier["package"]["prove"], earlier["package"]["prove_timeout_s"], earlier["training"]["strategy"]
    store.append(job.name, Opened(earlier, str(file)))
    runner.open_job(store, job, file, accept_changes=False)
    assert len(store.records(job.name)) == 1
    assert "[training]" not in text
    file.write_text(f'{text}\n[training]\nstrategy = "ddp"\n', encoding="utf-8")
    assert load_job(file).package.prove == ("python3", "-m", "forex.proving")


def test_a_job_file_states_its_own_line(tmp_path: Path) -> None:
    """What is filled in for a record is not filled in for a person."""
    (tmp_path / "job.toml").write_text('name = "night"\n\n[data]\nfeatures = 1\nscenarios = 1\npairs = 1\n')
    with pytest.raises(BadInput, match=r"provider: Field required") as refused:
        load_job(tmp_path / "job.toml")
    assert "proof_line" not in str(refused.value)
