"""The foot of a run's screen is true of the state that the job is in, and its money grows."""

from __future__ import annotations

import io
from pathlib import PurePosixPath
from typing import Any

import pytest
from rich.console import Console

from harness.cli import foot
from harness.cli.progress_view import open_reporter
from harness.core.errors import StoreFailed
from harness.core.lifecycle import Stage
from harness.ledger.events import CheckpointMirrored, Fetched, InstanceStopped, Launched, Rented, RentIntended, Verified
from harness.ledger.kinds import JobEvent
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import DIGEST, INSTANCE, LABEL, Log

OFFER: dict[str, Any] = {"num_gpus": 8, "gpu_name": "H100 SXM", "machine_id": 1234, "usd_per_hour": 15.95}
RENTED = (RentIntended(LABEL, OFFER, 77), Rented(INSTANCE, LABEL, OFFER, 15.95, 77))
LAUNCHED = Launched(command=("python3", "train.py"), why="the first time")
HOME = str(PurePosixPath("/models/a.gguf"))


def _foot(*happened: JobEvent, spent: float | None = 1.0) -> foot.Foot:
    log = Log()
    for event in happened:
        log.add(event)
    return foot.of(log.history, spent)


@pytest.mark.parametrize(
    ("happened", "says"),
    [
        ((), ("nothing bills", "no training has begun", "stops it here, and nothing bills")),
        (RENTED, (f"instance {INSTANCE} bills $15.95/h", "no training has begun", "leaves it running and billing")),
        ((*RENTED, LAUNCHED), ("nothing of the training is home yet", "harness run night goes on")),
        ((*RENTED, LAUNCHED, CheckpointMirrored("sft", 100)), ("home: sft step 100, not the model yet",)),
        (
            (*RENTED, LAUNCHED, Fetched(HOME, 7, DIGEST, 1.0), Verified(HOME, 7, DIGEST)),
            ("the verified model is home",),
        ),
    ],
)
def test_it_says_what_bills_what_is_home_and_what_is_left_behind(
    happened: tuple[JobEvent, ...], says: tuple[str, ...]
) -> None:
    told = " ".join(_foot(*happened).lines(0))
    assert all(words in told for words in says), told


def test_the_money_grows_while_it_runs_and_stands_while_the_instance_is_stopped() -> None:
    assert _foot(*RENTED).lines(3600)[0].startswith("$16.95 spent of $20.00")
    assert _foot(*RENTED, InstanceStopped(INSTANCE, "by hand")).lines(3600)[0].startswith("$1.00 spent of $20.00")
    assert _foot(spent=None).lines(3600)[0].startswith("$0.00 spent")


@pytest.mark.parametrize("width", [60, 120])
def test_a_terminal_shows_it_below_all_else(width: int) -> None:
    console, clock = Console(file=io.StringIO(), force_terminal=True, width=width), FakeClock()
    with open_reporter(console, plain=False, clock=clock, footing=lambda: _foot(*RENTED, LAUNCHED)) as reporter:
        reporter.stage(Stage.TRAINING)
        clock.turn(360)
        reporter.note("a line")
    assert isinstance(console.file, io.StringIO)
    said = " ".join(console.file.getvalue().split())
    assert "$2.59 spent of $20.00" in said or "$1.00 spent of $20.00" in said
    assert "goes on" in said


def test_a_log_that_cannot_be_read_hides_nothing_else() -> None:
    def unreadable() -> foot.Foot:
        raise StoreFailed("no log")

    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with open_reporter(console, plain=False, clock=FakeClock(), footing=unreadable) as reporter:
        reporter.stage(Stage.TRAINING)
    assert isinstance(console.file, io.StringIO)
    assert "training" in console.file.getvalue()
