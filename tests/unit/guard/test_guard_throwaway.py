"""The small door: a conformance run's own instance goes, and no job's instance, nor anybody else's, fits through."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import NotProven, ProviderUnavailable, Refused
from harness.core.ids import InstanceId, JobName, VolumeId, job_name, label
from harness.core.ports import DestroyReply, InstanceStatus
from harness.guard import throwaway as guard
from harness.ledger import throwaway
from harness.ledger.ownership import Claim, Known
from harness.ledger.throwaway import Throwaway, TrialStep
from tests.support.fake_clock import FakeClock
from tests.support.faulty_provider import FaultyProvider
from tests.support.scripted_world import USER, Market

PLACE: tuple[str, dict[str, str]] = ("scripted", {})
JOBS_LABEL = label(job_name("night"), "0badcafe")


@dataclasses.dataclass(slots=True)
class Scene:
    """A run that has rented an instance, at a provider that counts what it is asked."""

    clock: FakeClock
    market: Market
    provider: FaultyProvider
    run: Throwaway
    known: Known = dataclasses.field(default_factory=Known)

    @property
    def it(self) -> InstanceId:
        assert self.run.instance_id is not None
        return self.run.instance_id

    def ask(self) -> object:
        return guard.ask(self.provider, self.run, self.known, lambda _: None)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    clock = FakeClock()
    market = Market(clock)
    run = throwaway.begin(tmp_path, clock, *PLACE, USER)
    run.record(TrialStep.RENT_INTENDED, label=run.label, offer={})
    run.record(TrialStep.RENTED, instance_id=market.add(4711, run.label))
    return Scene(clock, market, FaultyProvider(market), run)


def test_its_own_instance_goes_and_is_proven_gone_and_unbilled(scene: Scene) -> None:
    assert scene.ask() is DestroyReply.ACCEPTED
    assert len(guard.prove_gone(scene.provider, scene.run, scene.clock).looks) >= 3
    assert guard.prove_unbilled(scene.provider, scene.run, scene.clock).usd > 0
    assert not scene.run.may_bill
    assert not scene.market.rented


def test_the_intent_is_on_the_disk_before_anything_is_asked(scene: Scene, tmp_path: Path) -> None:
    class Dies(BaseException):
        pass

    scene.provider.break_("destroy", Dies())
    with pytest.raises(Dies):
        scene.ask()
    (read,) = throwaway.runs(tmp_path, scene.clock)
    assert read.last(TrialStep.DESTROY_INTENDED) is not None
    assert read.last(TrialStep.DESTROY_REQUESTED) is None
    assert read.may_bill


def _relabelled(text: str | None) -> Callable[[Scene], None]:
    return lambda scene: scene.market.change(scene.it, label=text)


def _of_a_job(scene: Scene) -> None:
    """Somebody writes a job's instance into the journal of a run."""
    scene.run.record(TrialStep.RENTED, instance_id=scene.market.add(99, JOBS_LABEL))


def _adopted(scene: Scene) -> None:
    scene.known = Known({scene.it: Claim(JobName("night"), scene.it, gone=False, usd=None, now="at stage training")})


def _once_a_jobs(scene: Scene) -> None:
    scene.known = Known({scene.it: Claim(JobName("night"), scene.it, gone=True, usd=1.0, now="closed")})


def _of_another_run(scene: Scene) -> None:
    other = throwaway.begin(scene.run.folder.parent.parent, scene.clock, *PLACE, USER)
    scene.run.record(TrialStep.RENTED, instance_id=scene.market.add(99, other.label))


def _ended(scene: Scene) -> None:
    scene.run.record(TrialStep.UNBILLED, usd=0.01)


REFUSALS = {
    "a job's instance, in the journal": _of_a_job,
    "a job's label": _relabelled(JOBS_LABEL),
    "the label of a job that is named to look like one": _relabelled(label(job_name("trial-0123abcd"), "0badcafe")),
    "no label": _relabelled(None),
    "an empty label": _relabelled(""),
    "a label that lacks what tells it apart": _relabelled("gsh-_trial-"),
    "a label that goes on otherwise": lambda scene: scene.market.change(scene.it, label=scene.run.label + "y"),
    "another run's": _of_another_run,
    "adopted by a job meanwhile": _adopted,
    "once a job's": _once_a_jobs,
    "a job's log that does not read": lambda scene: setattr(scene, "known", Known(unreadable=(JobName("night"),))),
    "another account": lambda scene: setattr(scene.market, "user", 8),
    "a volume is mounted": lambda scene: scene.market.change(scene.it, volumes=(VolumeId(5),)),
    "a run that is over": _ended,
}


@pytest.mark.parametrize("name", REFUSALS)
def test_whatever_is_not_provably_its_own_is_not_asked_to_go(name: str, scene: Scene) -> None:
    REFUSALS[name](scene)
    with pytest.raises(Refused, match="nothing was asked to be destroyed"):
        scene.ask()
    assert scene.provider.count("destroy") == 0
    assert scene.it in scene.market.rented


@pytest.mark.parametrize("steps", [(), (TrialStep.RENTED,), (TrialStep.RENT_INTENDED,)])
def test_without_an_intent_and_a_number_nothing_is_asked(steps: tuple[TrialStep, ...], tmp_path: Path) -> None:
    clock = FakeClock()
    market = Market(clock)
    run = throwaway.begin(tmp_path, clock, *PLACE, USER)
    market.add(4711, run.label)
    for step in steps:
        run.record(step, instance_id=4711)
    provider = FaultyProvider(market)
    with pytest.raises(Refused, match="has rented nothing"):
        guard.ask(provider, run, Known(), lambda _: None)
    assert provider.count("destroy") == 0


@pytest.mark.parametrize("name", ["night", "trial", "_trial", "0", "a._-", "x" * 64])
def test_no_job_can_have_such_a_label(name: str, scene: Scene) -> None:
    try:
        job = job_name(name)
    except ValueError:
        assert name == "_trial"
        return
    made = label(job, scene.run.nonce)
    assert not scene.run.labels(made)
    assert not scene.run.label.startswith(f"gsh-{job}")


def test_a_runs_label_is_one_that_every_adapter_keeps(scene: Scene) -> None:
    assert re.fullmatch(r"gsh-_trial-[0-9a-f]{8}-x+", scene.run.label)
    assert len(scene.run.label) == throwaway.LABEL_LENGTH >= len(label(job_name("x" * 64), "0badcafe"))


@pytest.mark.parametrize("length", [32, 40, 77])
def test_a_label_that_was_cut_short_still_tells_it_apart(length: int, scene: Scene) -> None:
    scene.market.change(scene.it, label=scene.run.label[:length])
    assert scene.ask() is DestroyReply.ACCEPTED


def test_an_answer_that_says_nothing_is_kept_and_the_proof_tells(scene: Scene) -> None:
    scene.provider.break_("destroy", ProviderUnavailable("answered 200 with a list"), commit=True)
    assert isinstance(scene.ask(), ProviderUnavailable)
    assert (scene.run.last(TrialStep.DESTROY_REQUESTED) or {})["reply"] == "unclear: answered 200 with a list"
    guard.prove_gone(scene.provider, scene.run, scene.clock)


def test_the_journal_has_what_was_answered_seen_and_paid(scene: Scene) -> None:
    scene.ask()
    gone = guard.prove_gone(scene.provider, scene.run, scene.clock)
    bill = guard.prove_unbilled(scene.provider, scene.run, scene.clock)
    told = {step: scene.run.last(step) or {} for step in TrialStep}
    assert told[TrialStep.DESTROY_REQUESTED]["reply"] == str(DestroyReply.ACCEPTED)
    assert len(told[TrialStep.GONE]["looks"]) == len(gone.looks)
    assert told[TrialStep.UNBILLED]["usd"] == bill.usd == 1.0


def test_an_instance_that_shows_no_more_is_not_asked_to_go_and_may_be_proven_gone(scene: Scene) -> None:
    """Somebody else has destroyed it: this run has asked for nothing, and waits for the bill of what ran."""
    scene.market.rented.clear()
    assert scene.ask() is None
    assert scene.provider.count("destroy") == 0
    assert scene.run.last(TrialStep.DESTROY_INTENDED) is None
    guard.prove_gone(scene.provider, scene.run, scene.clock)
    scene.provider.break_("charges", (), times=0)
    with pytest.raises(NotProven, match="no charge for it is listed yet"):
        guard.prove_unbilled(scene.provider, scene.run, scene.clock)


@pytest.mark.parametrize(
    ("status", "started_at", "ran"),
    [
        (InstanceStatus.RUNNING, 5.0, True),
        (InstanceStatus.RUNNING, None, True),
        (InstanceStatus.LOADING, 5.0, True),
        (InstanceStatus.LOADING, None, False),
        (InstanceStatus.CREATED, None, False),
        (InstanceStatus.STOPPED, None, True),
    ],
)
def test_a_bill_is_waited_for_unless_it_provably_never_ran(
    status: InstanceStatus, started_at: float | None, ran: bool, scene: Scene
) -> None:
    scene.market.change(scene.it, status=status, started_at=started_at)
    scene.ask()
    assert (scene.run.last(TrialStep.DESTROY_INTENDED) or {})["ran"] is ran
    guard.prove_gone(scene.provider, scene.run, scene.clock)
    scene.provider.break_("charges", (), times=0)
    if not ran:
        assert guard.prove_unbilled(scene.provider, scene.run, scene.clock).usd == 0
        return
    with pytest.raises(NotProven, match="no charge for it is listed yet"):
        guard.prove_unbilled(scene.provider, scene.run, scene.clock)


def test_what_was_found_once_is_not_looked_for_again(scene: Scene) -> None:
    assert guard.find(scene.provider, scene.run, scene.clock) == scene.it
    assert scene.provider.calls == []


def test_a_bill_is_not_proven_before_its_end(scene: Scene) -> None:
    with pytest.raises(NotProven, match="not proven to be gone"):
        guard.prove_unbilled(scene.provider, scene.run, scene.clock)


def test_a_row_that_stays_is_not_gone(scene: Scene) -> None:
    scene.provider.break_("destroy", DestroyReply.ACCEPTED, times=0)
    scene.ask()
    with pytest.raises(NotProven, match="still shown"):
        guard.prove_gone(scene.provider, scene.run, scene.clock)
    assert scene.run.may_bill


def test_a_lost_create_is_found_by_its_label_and_two_are_nobodys(tmp_path: Path) -> None:
    clock = FakeClock()
    market = Market(clock)
    run = throwaway.begin(tmp_path, clock, *PLACE, USER)
    run.record(TrialStep.RENT_INTENDED, label=run.label, offer={})
    market.add(5, JOBS_LABEL)
    first = market.add(6, run.label)
    second = market.add(7, run.label)
    with pytest.raises(Refused, match="instances 6, 7"):
        guard.find(FaultyProvider(market), run, clock)
    del market.rented[second]
    assert guard.find(FaultyProvider(market), run, clock) == first == run.instance_id


def test_a_create_that_came_to_nothing_is_said_to_after_three_minutes(tmp_path: Path) -> None:
    clock = FakeClock()
    market = Market(clock)
    market.add(5, JOBS_LABEL)
    run = throwaway.begin(tmp_path, clock, *PLACE, USER)
    run.record(TrialStep.RENT_INTENDED, label=run.label, offer={})
    began = clock.monotonic()
    assert guard.find(FaultyProvider(market), run, clock) is None
    assert clock.monotonic() - began >= 180
    assert not run.may_bill
    assert list(market.rented) == [InstanceId(5)]
