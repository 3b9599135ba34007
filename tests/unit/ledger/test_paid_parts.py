"""Paid time by what it was spent on: in sum what was paid, whatever happened to the job."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.ids import InstanceId, JobName, Sha256
from harness.core.lifecycle import Stage
from harness.ledger import billing, chain, events, noted, paid_parts
from harness.ledger.chain import Record
from harness.ledger.codec import encode
from harness.ledger.kinds import JobEvent

BOX = InstanceId(4711)
SHA = Sha256("0" * 64)
OFFER = {"id": 1, "storage_usd_per_gb_month": None}
RENTED = events.Rented(BOX, "label", OFFER, 3600.0, 7)
GONE = (events.DestroyRequested(BOX, "accepted"), events.Destroyed(BOX, {}))
GOOD = (
    (0, RENTED),
    (60, events.StageEntered(Stage.UPLOAD)),
    (90, events.Uploaded(9)),
    (91, events.StageEntered(Stage.INSTALL)),
    (150, events.Installed(0)),
    (200, noted.BaseFetched(0)),
    (230, events.StageEntered(Stage.LAUNCH)),
    (232, events.Launched(("train",), "launch")),
    (260, events.StageEntered(Stage.TRAINING)),
    (261, noted.AtWork("sft")),
    (861, noted.AtWork("dpo")),
    (1000, noted.AtWork("export")),
    (1063, events.Trained(1060.0)),
    (1064, events.StageEntered(Stage.POSTTRAIN)),
    (1070, events.ArtifactRecorded("m.gguf", 8, SHA)),
    (1072, events.StageEntered(Stage.POSTDOWNLOAD)),
    (1672, events.Fetched("/m.gguf", 8, SHA, 1.0)),
    (1690, events.StageEntered(Stage.TEARDOWN)),
    (1691, events.EvaluationBegun(("judge",))),
    (1731, events.Evaluated(None, SHA)),
    (1732, events.Released("/r", "x")),
    (1832, events.Confirmed("typed", BOX)),
    (1834, GONE[0]),
    (1900, GONE[1]),
)
SPENT = {
    "renting and boot": 60,
    "upload": 31,
    "install": 59,
    "base model": 50,
    "readiness": 30,
    "launch and loading": 31,
    "training: sft": 600,
    "training: dpo": 139,
    "export": 60,
    "ended, not seen yet": 4,
    "hashing on the box": 6,
    "companions": 2,
    "download": 600,
    "verifying": 18,
    "giving back": 1 + 1 + 2,
    "evaluation": 40,
    "waiting for a person": 100,
}


def _log(told: tuple[tuple[float, JobEvent], ...]) -> list[Record]:
    records: list[Record] = []
    for at, event in told:
        kind, data = encode(event)
        records.append(chain.seal(chain.head_of(records), JobName("job"), at, kind, data))
    return records


def _parts(told: tuple[tuple[float, JobEvent], ...], now: float = 2000.0) -> dict[str, float]:
    records = _log(told)
    spans = billing.paid_spans(records, now)
    found = paid_parts.parts(records, spans)
    assert sum(one.usd for one in found) == pytest.approx(billing.usd_within(spans, -math.inf, math.inf))
    running = sum(one.seconds for one in found if one.running)
    assert running == pytest.approx(billing.seconds_within(spans, -math.inf, math.inf))
    return {one.name: one.seconds for one in found}


def test_every_second_of_a_good_run_belongs_to_one_part() -> None:
    assert _parts(GOOD) == SPENT


def test_the_clock_of_the_box_does_not_move_a_part_out_of_its_place() -> None:
    """Its own account of the end may lie before the training was seen at its last part, or after it was recorded."""
    for told in (-1e9, 1e12):
        bent = tuple((at, events.Trained(told) if isinstance(one, events.Trained) else one) for at, one in GOOD)
        assert sum(_parts(bent).values()) == sum(SPENT.values())


ADOPTED = events.Adopted(BOX, "", 7, 3600.0, OFFER, "running", 0.0)
HELD = events.Held(Stage.TRAINING, "GateHeld", "a person is needed")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(
            (*GOOD[:10], (300, HELD), (500, events.StageEntered(Stage.TRAINING)), (600, noted.AtWork("dpo"))),
            {"training: sft": 339},
            id="a training runs on while its watch is held",
        ),
        pytest.param(
            (*GOOD[:10], (300, events.TrainingStopped("hopeless", 1)), (301, HELD)),
            {"training: sft": 39, "waiting for a person": 700},
            id="a training that was stopped does not",
        ),
        pytest.param(
            (*GOOD[:2], (80, events.Held(Stage.UPLOAD, "GateHeld", "x")), (180, events.StageEntered(Stage.UPLOAD))),
            {"upload": 20 + 820, "waiting for a person": 100},
            id="held in mid-upload",
        ),
        pytest.param(
            ((100, ADOPTED), (130, events.StageEntered(Stage.POSTTRAIN))),
            {"before it was taken over": 100, "renting and boot": 30, "hashing on the box": 870},
            id="taken over",
        ),
        pytest.param(
            (*GOOD[:10], (300, events.InstanceStopped(BOX, "budget")), (700, events.InstanceStarted(BOX))),
            {"training: sft": 39, "renting and boot": 60 + 300},
            id="stopped and started: its disk's price is not known",
        ),
    ],
)
def test_what_stands_in_the_way(told: tuple[tuple[float, JobEvent], ...], expected: dict[str, float]) -> None:
    found = _parts(told, now=1000.0)
    assert {name: found.get(name, 0) for name in expected} == expected


def test_an_evaluation_that_is_found_among_the_companions_is_none_that_was_waited_for() -> None:
    found = _parts((*GOOD[:15], (1071, events.Evaluated("none", None)), *GOOD[15:16]), now=1100.0)
    assert "giving back" not in found
    assert found["companions"] == 2


def test_a_disk_that_is_billed_while_the_instance_is_stopped_is_a_part_of_its_own() -> None:
    rented = events.Rented(BOX, "label", {**OFFER, "storage_usd_per_hour": 36.0}, 3600.0, 7)
    records = _log(((0, rented), (100, events.InstanceStopped(BOX, "budget"))))
    spans = [billing.PaidSpan(0, 100, 3600.0), billing.PaidSpan(100, 300, 36.0, stopped=True)]
    found = paid_parts.parts(records, spans)
    assert [(one.name, one.seconds, one.usd, one.running) for one in found] == [
        ("renting and boot", 100, 100.0, True),
        (paid_parts.STOPPED, 200, 2.0, False),
    ]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 2000), st.integers(0, len(GOOD) - 1)), max_size=30))
def test_any_order_of_events_at_any_times_sums_to_what_was_paid(order: list[tuple[float, int]]) -> None:
    _parts(((0, RENTED), *((at, GOOD[index][1]) for at, index in order)))
