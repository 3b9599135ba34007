"""Before anything is rented: what is looked for, whose it is, and what holds the job; by values, no market is there."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.context import RunnerContext
from harness.core.errors import AmbiguousCreate, GateHeld, NotProven, ProviderUnavailable, Refused, Unaccounted
from harness.core.ids import InstanceId
from harness.core.ports import Instance
from harness.ledger.events import Abandoned, Lost, Opened, Rented, RentFailed, RentIntended
from harness.ledger.remembered import Remembered
from harness.runner import reconciling
from tests.support.context import Telling
from tests.support.facts import instance, sound_job
from tests.support.fake_clock import FakeClock

MINE, OTHERS = "gsh-forex-r1-v3-0a1b2c3d", "gsh-day-0a1b2c3d"
OFFER: Any = {"usd_per_hour": 15.9, "machine_id": 12}
ID = InstanceId(7001)
BEGUN = RentIntended(MINE, OFFER, 7)
TOLD = Remembered(ID, MINE, OFFER)


class Desk:
    """A context of what is known: the log's events by kind, the folder's memory, the account."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, told: Sequence[Remembered] = (), **history: Any) -> None:
        self.clock, self.job, self.reporter, self.directory = FakeClock(), sound_job(), Telling(), None
        self.recorded = list[object]()
        events = {Opened: [SimpleNamespace(file="my job.toml")], **history.pop("events", {})}
        known = {"intended": None, "labels": {MINE}, "job": self.job, **history}
        self.history = SimpleNamespace(**known, all=lambda kind: events.get(kind, []))
        self.bills: Any = []
        self.user = 7
        self.taken_over: dict[str, str] = {}
        self.looked = dict[str, Any]()
        self.found: Any = SimpleNamespace(instances=(), volumes=())
        monkeypatch.setattr(reconciling, "remembered", lambda *_: tuple(told))
        monkeypatch.setattr(reconciling, "look_for", self._look_for)

    def __call__(self) -> RunnerContext:
        return cast("RunnerContext", self)

    def known(self) -> Any:
        return SimpleNamespace(taken_over=self.taken_over, alive=lambda: "the living")

    def provider(self) -> Any:
        account = SimpleNamespace(user_id=self.user, at=None)
        return SimpleNamespace(account=lambda: account, bills=self._bills)

    def _bills(self) -> Any:
        if isinstance(self.bills, Exception):
            raise self.bills
        return self.bills

    def _look_for(self, *_: object, **asked: Any) -> Any:
        self.looked = asked
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def record(self, event: object) -> None:
        self.recorded.append(event)

    def find(self) -> None:
        reconciling.find_rented(self(), self.reporter)


def found(*instances: Instance, volumes: Sequence[object] = ()) -> Any:
    return SimpleNamespace(instances=instances, volumes=tuple(volumes))


def bill(number: object, label: str = MINE, kind: str = "instance") -> Any:
    return SimpleNamespace(id=number, label=label, kind=kind)


RENTED = Rented(ID, MINE, OFFER, 15.9, 7)


def test_where_nothing_was_begun_nothing_is_recorded_and_the_window_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch)
    desk.bills = [bill(5)]
    desk.find()
    assert (desk.recorded, desk.reporter.notes, desk.looked["known"]) == ([], [], [])
    limits = desk.job.limits
    assert desk.looked["window_s"] == limits.absence_window_s
    assert desk.looked["deadline_s"] == limits.absence_window_s + limits.absence_deadline_s
    assert (desk.looked["agreements"], desk.looked["alive"]) == (3, "the living")


def test_a_rent_that_was_begun_is_looked_for_three_windows_long_by_the_bills_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(monkeypatch, intended=BEGUN)
    desk.bills = [bill(5), bill(6, OTHERS), bill(8, kind="volume")]
    desk.find()
    assert desk.looked["known"] == [InstanceId(5)]
    assert desk.looked["window_s"] == 3 * desk.job.limits.absence_window_s
    assert desk.recorded == [RentFailed(MINE, "no instance carries the label")]
    assert desk.reporter.notes == [f"a rent was begun before ({MINE}): looking for it"]


def test_bills_that_cannot_be_had_keep_nobody_from_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, intended=BEGUN)
    desk.bills = ProviderUnavailable("away")
    desk.find()
    assert desk.looked["known"] == []


@pytest.mark.parametrize("labels", [{MINE}, set()])
def test_what_the_folder_tells_of_counts_where_the_ledger_does_not_know_it(
    monkeypatch: pytest.MonkeyPatch, labels: set[str]
) -> None:
    desk = Desk(monkeypatch, told=[TOLD], labels=labels)
    desk.find()
    new = not labels
    assert desk.looked["known"] == ([ID] if new else [])
    assert desk.looked["window_s"] == desk.job.limits.absence_window_s * (3 if new else 1)
    assert any("tells of instance 7001" in note for note in desk.reporter.notes) == new


def test_an_absence_that_is_not_proven_rents_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, intended=BEGUN)
    desk.found = NotProven("the lists differ")
    with pytest.raises(AmbiguousCreate, match="the lists differ"):
        desk.find()
    assert desk.recorded == []


ENDS: dict[str, Any] = {
    "rented": {Rented: [RENTED]},
    "abandoned": {Abandoned: [SimpleNamespace(instance_id=ID)]},
    "lost": {Lost: [SimpleNamespace(instance_id=ID)]},
}


def test_one_that_was_begun_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    older = RentIntended(MINE, {**OFFER, "usd_per_hour": 9.0}, 7)
    desk = Desk(monkeypatch, intended=BEGUN, events={RentIntended: [older, BEGUN]})
    desk.found = found(instance(label=MINE))
    desk.find()
    assert desk.recorded == [RENTED]
    assert desk.reporter.notes[-1] == "found it: instance 7001"


@pytest.mark.parametrize("ended", ENDS)
def test_one_of_which_the_log_tells_an_end_is_not_taken_over(monkeypatch: pytest.MonkeyPatch, ended: str) -> None:
    desk = Desk(monkeypatch, events={RentIntended: [BEGUN], **ENDS[ended]})
    desk.found = found(instance(label=MINE))
    with pytest.raises(Unaccounted, match=r"instance 7001 \(gsh-forex-r1-v3-0a1b2c3d, running, \$15.90/h\)"):
        desk.find()
    assert desk.recorded == []


@pytest.mark.parametrize(
    ("told", "takes"),
    [(TOLD, True), (Remembered(InstanceId(1), MINE, OFFER), False), (Remembered(ID, OTHERS, OFFER), False)],
)
def test_one_that_the_folder_tells_of_is_taken_over_by_its_number_and_its_label(
    monkeypatch: pytest.MonkeyPatch, told: Remembered, takes: bool
) -> None:
    desk = Desk(monkeypatch, told=[told], labels=set())
    desk.found = found(instance(label=MINE))
    if takes:
        desk.find()
        assert desk.recorded == [BEGUN, RENTED]
    else:
        with pytest.raises(Unaccounted):
            desk.find()
        assert desk.recorded == []


@pytest.mark.parametrize(
    ("instances", "kept", "holds"), [(2, True, True), (0, False, True), (0, True, False)],
    ids=["two instances", "a volume", "a volume that is kept"],
)  # fmt: skip
def test_what_the_ledger_does_not_account_for_holds_the_job(
    monkeypatch: pytest.MonkeyPatch, instances: int, kept: bool, holds: bool
) -> None:
    desk = Desk(monkeypatch, events={RentIntended: [BEGUN]})
    monkeypatch.setattr(reconciling, "described", lambda one: f"volume {one.id}")
    volume = SimpleNamespace(id="v9")
    if kept:
        own = desk.job.provider.model_copy(update={"kept_volumes": ("v9",)})
        desk.job = desk.job.model_copy(update={"provider": own})
    both = [instance(id=InstanceId(number), label=MINE) for number in range(instances)]
    desk.found = found(*both, volumes=[volume])
    if not holds:
        desk.find()
        return
    with pytest.raises(Unaccounted) as raised:
        desk.find()
    assert ("volume v9" in str(raised.value)) == (not kept)
    ways = [f"harness destroy --instance-id {number} --job-file 'my job.toml'" for number in range(instances)]
    remedy = str(raised.value.remedy)
    assert [way in remedy for way in ways] == [True] * instances
    assert ("brings home" in remedy) == bool(instances)


def test_another_accounts_key_cannot_tell_what_came_of_a_rent(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, intended=BEGUN)
    desk.user = 8
    with pytest.raises(GateHeld, match="begun by user 7, the API key is user 8's"):
        desk.find()
    unknown = Desk(monkeypatch, intended=RentIntended(MINE, OFFER, None))
    unknown.user = 8
    unknown.find()
    assert len(unknown.recorded) == 1


@pytest.mark.parametrize(("label", "refused"), [(MINE, True), (OTHERS, False)])
def test_a_job_whose_instance_another_took_over_is_done(
    monkeypatch: pytest.MonkeyPatch, label: str, refused: bool
) -> None:
    desk = Desk(monkeypatch)
    desk.taken_over = {label: "night"}
    if refused:
        with pytest.raises(Refused, match="job night took this job's instance over and is closed"):
            desk.find()
    else:
        desk.find()
    assert bool(desk.looked) != refused
