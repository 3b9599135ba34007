"""Journals of conformance runs: whose an instance or a bill is, and what is left of a run that was cut off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import Conflict
from harness.core.ids import InstanceId
from harness.core.ports import Bill
from harness.job.provider import ProviderTable
from harness.ledger import ownership, throwaway
from harness.ledger.ownership import Known, Standing
from harness.ledger.throwaway import Throwaway, TrialStep
from tests.support.fake_clock import FakeClock
from tests.support.scripted_world import Market

VAST = ProviderTable(kind="vast")
IT = InstanceId(4711)
Taken = tuple[tuple[TrialStep, Mapping[str, Any]], ...]
RENTED: Taken = ((TrialStep.RENT_INTENDED, {}), (TrialStep.RENTED, {"instance_id": IT}))
GONE: Taken = (*RENTED, (TrialStep.GONE, {}))
OVER: Taken = (*GONE, (TrialStep.UNBILLED, {"usd": 0.02}))


def begun(home: Path, steps: Taken, place: tuple[str, Mapping[str, Any]] = ("vast", {})) -> Throwaway:
    run = throwaway.begin(home, FakeClock(), *place, 7)
    for step, told in steps:
        run.record(step, **told)
    return run


def known(home: Path) -> Known:
    return ownership.known((), VAST, (), throwaway.runs(home, FakeClock()))


@pytest.mark.parametrize(
    ("steps", "bills"),
    [
        ((), False),
        (RENTED[:1], True),
        (RENTED, True),
        ((*RENTED[:1], (TrialStep.NOT_RENTED, {})), False),
        ((*RENTED[:1], (TrialStep.NOT_RENTED, {}), *RENTED[:1]), True),
        ((*RENTED, (TrialStep.DESTROY_INTENDED, {}), (TrialStep.DESTROY_REQUESTED, {})), True),
        (GONE, True),
        (OVER, False),
    ],
)
def test_a_run_may_bill_until_the_end_of_its_bill_is_proven(steps: Taken, bills: bool, tmp_path: Path) -> None:
    begun(tmp_path, steps)
    (read,) = throwaway.runs(tmp_path, FakeClock())
    assert read.may_bill is bills


@pytest.mark.parametrize(
    ("steps", "standing", "told"),
    [
        (RENTED[:1], Standing.FORGOTTEN, "harness conformance --provider vast --end ends it"),
        (RENTED, Standing.FORGOTTEN, "harness conformance --provider vast --end ends it"),
        (OVER, Standing.FORGOTTEN, "look at the provider's console"),
    ],
)
def test_an_instance_is_its_runs(steps: Taken, standing: Standing, told: str, tmp_path: Path) -> None:
    run, market = begun(tmp_path, steps), Market(FakeClock())
    market.add(IT, run.label)
    whose = known(tmp_path).of_instance(market.rented[IT])
    assert whose.standing is standing
    assert told in whose.told
    with run.alone():
        assert known(tmp_path).of_instance(market.rented[IT]).standing is Standing.OWNED
        with pytest.raises(Conflict), run.alone():
            pass


def test_at_another_place_it_is_an_orphan_by_its_label(tmp_path: Path) -> None:
    run, market = begun(tmp_path, RENTED, ("vast", {"server_url": "https://elsewhere.example"})), Market(FakeClock())
    market.add(IT, run.label)
    assert known(tmp_path).of_instance(market.rented[IT]).standing is Standing.ORPHAN
    assert "--server-url https://elsewhere.example --end" in run.end_command


@pytest.mark.parametrize(
    ("steps", "usd", "standing"),
    [
        (OVER, 0.02, Standing.OWNED),
        (OVER, 0.03, Standing.OWNED),
        (OVER, 0.50, Standing.FORGOTTEN),
        (GONE, 0.02, Standing.FORGOTTEN),
    ],
)
def test_a_bill_is_accounted_for_once_its_end_was_seen(
    steps: Taken, usd: float, standing: Standing, tmp_path: Path
) -> None:
    begun(tmp_path, steps)
    assert known(tmp_path).of_bill(Bill("instance", IT, None, usd, 1.0)).standing is standing
    assert known(tmp_path).of_bill(Bill("volume", IT, None, usd, 1.0)).standing is Standing.STRANGER


@pytest.mark.parametrize("text", ["", "{]\n", '{"step": "begun"}\n', "[]\n", "null\n", '"begun"\n'])
def test_a_journal_that_does_not_read_is_no_run_and_no_error(text: str, tmp_path: Path) -> None:
    run = begun(tmp_path, RENTED)
    (run.folder / "journal.jsonl").write_text(text, encoding="utf-8")
    assert throwaway.runs(tmp_path, FakeClock()) == ()


@pytest.mark.parametrize("journal", ["{\n", "3\n", "{}\n", '{"kind": "vast"}\n', ""])
def test_a_run_whose_journal_does_not_read_hides_no_other(journal: str, tmp_path: Path) -> None:
    begun(tmp_path, RENTED)
    odd = tmp_path / throwaway._FOLDER / "odd"
    odd.mkdir()
    (odd / throwaway._FILE).write_text(journal, "utf-8")
    (tmp_path / throwaway._FOLDER / "none" / throwaway._FILE).mkdir(parents=True)
    assert [run.may_bill for run in throwaway.runs(tmp_path, FakeClock())] == [True]
