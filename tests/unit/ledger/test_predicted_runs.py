"""The forecast against runs that were really made on an embedded provider: each is foretold by those before it."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.core.ids import JobName
from harness.job.model import Job
from harness.ledger import chain, predicted
from harness.ledger.chain import Record
from harness.ledger.codec import encode
from harness.ledger.events import Opened
from harness.ledger.history import History, fold
from harness.report import building, markdown, numbers
from harness.runner import renting
from tests.support.scripted_world import offer

RECORDED = json.loads((Path(__file__).parent / "data" / "embedded_runs.json").read_text(encoding="utf-8"))
"""Events with the times at which they happened: 21 runs of ``harness demo`` in one day by many versions, from idle to
a load of 17 on two cores, and 10 of the tests' quick job at a load of 8 to 18, two of them with other steps."""
HISTORY, BAR = 3, 0.2


@cache
def played(kind: str) -> tuple[History, ...]:
    """Every run of a kind with the plan that it would have been agreed to by, made of those before it."""
    told, made = RECORDED[kind], list[History]()
    for run in told["runs"]:
        job = Job.model_validate(told["job"], extra="ignore")
        steps = {trainer: run["steps"][trainer] for trainer in job.trainers}
        job = job.model_copy(update={"training": job.training.model_copy(update={"steps": steps})})
        began, rented = next((at, data["offer"]) for at, event, data in run["events"] if event == "rented")
        shown = renting.plan(job, [dataclasses.replace(offer(), **rented)], made[::-1], None)
        opened = encode(Opened(job=job.model_dump(mode="json"), file="job.toml"))
        records: list[Record] = []
        for at, event, data in ((began - 60, *opened), (began - 1, *encode(shown.agreed("--yes"))), *run["events"]):
            records.append(chain.seal(chain.head_of(records), JobName(job.name), at, event, data))
        made.append(fold(records))
    return tuple(made)


@pytest.mark.parametrize(("kind", "runs"), [("demo", 21), ("quick", 10)])
def test_after_three_runs_the_median_error_is_under_a_fifth(kind: str, runs: int) -> None:
    """``-s`` shows the parts; those of a few seconds are off by more than a fifth."""
    told = played(kind)
    assert len(told) == runs
    found = [predicted.compared(one) for one in told[HISTORY:]]
    assert all(one[-1].name == predicted.IN_ALL for one in found)
    errors = {name: [part.error for one in found for part in one if part.name == name] for name in _names(found)}
    middle = {name: sorted(each)[len(each) // 2] for name, each in errors.items()}
    print({name: f"{each:.0%} of {len(errors[name])}" for name, each in middle.items()})  # noqa: T201 - for -s
    assert max(middle[name] for name in (predicted.IN_ALL, "setup", "loading, training and export")) < BAR, middle


def test_without_history_the_profile_is_far_off() -> None:
    """The bar would be red without the history: nothing else knows an embedded machine."""
    first = predicted.compared(played("demo")[0])[-1]
    assert first.error > 1


def test_the_figures_agreed_to_are_those_of_the_report_and_of_the_next_plan() -> None:
    runs = played("demo")
    last = predicted.compared(runs[-1])
    report = building.build(runs[-1], now=runs[-1].records[-1].at, charges=None)
    assert report.money.predicted == last
    said = markdown.render(report)
    for one in last:
        assert f"| `{one.name}` | {numbers.duration(one.predicted)} | {numbers.duration(one.took)} |" in said
    errors = renting.plan(runs[-1].job, [offer()], runs[::-1], None).errors
    newest = [predicted.compared(one)[-1].error for one in runs[-5:]]
    assert errors[predicted.IN_ALL] == (sorted(newest)[2], 5)


def _names(found: Any) -> list[str]:
    return list(dict.fromkeys(part.name for one in found for part in one))
