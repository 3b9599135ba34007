"""How long the runner waits for a machine, and what it makes of each of its states: by values, no job runs here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.context import RunnerContext
from harness.core.errors import GateHeld, HostKeyChanged, HostUnreachable, InstanceDead, ProviderUnavailable
from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.ports import Instance, InstanceStatus
from harness.facts.mirror import Resumable
from harness.guard import destroy
from harness.ledger.events import InstanceStarted, Pinned, Reopened
from harness.runner import provision, renting, replacement, switch
from tests.support.context import Telling
from tests.support.facts import instance, sound_job
from tests.support.fake_clock import FakeClock

RUNNING, STOPPED, EXITED = InstanceStatus.RUNNING, InstanceStatus.STOPPED, InstanceStatus.EXITED
OFFLINE, UNKNOWN = InstanceStatus.OFFLINE, InstanceStatus.UNKNOWN
RENTAL = SimpleNamespace(instance_id=InstanceId(7001))
HELD_S = 6 * 3600.0


def shown(status: InstanceStatus = RUNNING, **changes: Any) -> Instance:
    told = {"endpoints": (("1.2.3.4", 22),), **changes}
    return instance(status=status, **cast("Any", told))


class Desk:
    """A context of which each look at the instance is told in turn, the last one for good."""

    def __init__(self, *looks: object, **history: Any) -> None:
        self.clock, self.job, self.reporter = FakeClock(), sound_job(), Telling()
        self.looks, self.looked, self.keys = list(looks), 0, list[object]()
        self.recorded, self.public_key = list[object](), ""
        told = {"alive": RENTAL, "pin": object(), "instance_stopped": False, "destroy_intended": False, **history}
        self.history = SimpleNamespace(**told)

    def __call__(self) -> RunnerContext:
        return cast("RunnerContext", self)

    def provider(self) -> Any:
        return SimpleNamespace(
            instance=lambda _: self._next(self.looks),
            host_keys=lambda _, **_newest: self._next(self.keys),
            host_key_source="read in the container log",
        )

    def _next(self, told: list[object]) -> Any:
        self.looked += 1
        one = told.pop(0) if len(told) > 1 else told[0]
        if isinstance(one, Exception):
            raise one
        return one

    def record(self, event: object) -> None:
        self.recorded.append(event)

    def shown_host_key(self) -> str:
        return "ssh-ed25519 FIRST"


# --- is it there, and does it run -----------------------------------------------------------


def test_one_that_is_missing_is_looked_for_for_a_minute_and_is_then_dead() -> None:
    late = Desk(None, None, shown())
    assert provision.shown(late(), cast("Any", RENTAL)).id == InstanceId(7001)
    assert late.clock.slept == [2.0, 2.0]
    gone = Desk(None)
    with pytest.raises(InstanceDead, match="shows no instance 7001, which this job rented"):
        provision.shown(gone(), cast("Any", RENTAL))
    assert 60 < gone.clock.monotonic() <= 64


@pytest.mark.parametrize("status", InstanceStatus)
def test_in_mid_stage_one_that_somebody_stopped_holds_and_any_other_may_come_back(status: InstanceStatus) -> None:
    desk = Desk(shown(status, status_message="out of credit"))
    if status in {STOPPED, EXITED}:
        with pytest.raises(GateHeld, match=f"instance 7001 is {status}, and not by this job; .*: out of credit"):
            provision.require_running(desk())
    else:
        assert provision.require_running(desk()) is status
    assert provision.require_running(Desk(alive=None)()) is UNKNOWN


@pytest.mark.parametrize(
    ("look", "dead"),
    [
        (shown(), ""),
        (shown(UNKNOWN), ""),
        (shown(OFFLINE), "instance 7001 is offline"),
        (shown(EXITED), "instance 7001 is exited"),
        (None, "the provider shows no instance 7001"),
        (ProviderUnavailable("away"), ""),
    ],
)
def test_a_box_that_cannot_be_reached_is_dead_by_the_providers_word_alone(look: object, dead: str) -> None:
    found = provision.death(Desk(look)())
    assert (str(found).startswith(dead) if dead else found is None) is True, found
    assert provision.death(Desk(look, alive=None)()) is None


@pytest.mark.parametrize(
    ("look", "gone"), [(shown(), False), (shown(EXITED), False), (None, True), (ProviderUnavailable("away"), True)]
)
def test_one_whose_destruction_was_asked_for_is_gone_where_it_is_not_shown(look: object, gone: bool) -> None:
    assert provision.gone_by_now(Desk(look)()) is gone
    assert provision.gone_by_now(Desk(alive=None)()) is True


@pytest.mark.parametrize(
    ("look", "history", "ready"),
    [
        (shown(), {}, 0),
        (shown(OFFLINE), {}, 1),
        (shown(endpoints=()), {}, 1),
        (shown(), {"pin": None}, 1),
        (shown(), {"instance_stopped": True}, 0),
        (shown(), {"alive": None}, 0),
    ],
)
def test_before_a_later_stage_what_does_not_run_is_made_ready(
    monkeypatch: pytest.MonkeyPatch, look: Instance, history: dict[str, Any], ready: int
) -> None:
    desk, made = Desk(look, **history), list[object]()
    monkeypatch.setattr(provision, "_make_ready", lambda *_: made.append(1))
    provision.resume(desk(), desk.reporter, may_start=True)
    assert len(made) == ready
    stopped_before = history.get("instance_stopped", False)
    assert desk.recorded == ([InstanceStarted(InstanceId(7001))] if stopped_before else [])


def test_a_stopped_one_is_started_for_a_command_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[object]()
    monkeypatch.setattr(provision, "_make_ready", lambda *_: made.append(1))
    with pytest.raises(GateHeld, match="not by this job"):
        provision.resume((desk := Desk(shown(STOPPED)))(), desk.reporter, may_start=False)
    assert not made
    provision.resume(desk(), desk.reporter, may_start=True)
    assert made == [1]


# --- preflight of long ago ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "passed", "why"),
    [
        (HELD_S, True, ""),
        (HELD_S + 1, True, "it was judged 6 h 00 min ago"),
        (-HELD_S, True, ""),
        (-HELD_S - 1, True, "it was judged at a time that is yet to come"),
        (HELD_S + 1, False, ""),
    ],
)
def test_a_preflight_of_long_ago_is_judged_again(age: float, passed: bool, why: str) -> None:
    desk = Desk()
    desk.history.judged_at = {Stage.PREFLIGHT: desk.clock.now() - age}
    desk.history.passed = lambda _: passed
    assert provision.reopen_if_old(desk(), desk.reporter) is bool(why)
    assert desk.recorded == ([Reopened(Stage.PREFLIGHT, why)] if why else [])
    assert desk.reporter.notes == ([f"preflight is judged again before anything is rented: {why}"] if why else [])


# --- until it runs --------------------------------------------------------------------------


class Startable(Desk):
    """A desk at which an instance may be started; every act and its order is listed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: object) -> None:
        super().__init__(*looks, rental=SimpleNamespace(instance_id=InstanceId(7001), usd_per_hour=16.0))
        self.acts = list[str]()
        monkeypatch.setattr(provision, "outlook", lambda *_: SimpleNamespace(projected=12.0, spent=5.0))
        monkeypatch.setattr(provision, "require_affordable", self._affordable)

    def _affordable(self, _context: object, usd_per_hour: float, usd: float) -> None:
        self.acts.append(f"afford {usd_per_hour:g} {usd:g}")

    def provider(self) -> Any:
        told = super().provider()
        told.start = lambda _: self.acts.append("start")
        return told

    def record(self, event: object) -> None:
        super().record(event)
        self.acts.append(type(event).__name__)

    def require_lease(self) -> None:
        self.acts.append("lease")

    def wait(self) -> Instance:
        return provision._wait_until_running(self(), self.reporter)


HALTED = {"intended_status": "stopped", "disk_usd_per_hour": 0.5}


@pytest.mark.parametrize("status", [STOPPED, EXITED])
def test_a_stopped_one_is_started_once_when_it_can_be_paid_before_and_behind_its_record(
    monkeypatch: pytest.MonkeyPatch, status: InstanceStatus
) -> None:
    stands = shown(status, **HALTED)
    desk = Startable(monkeypatch, stands, stands, stands, shown(endpoints=()), shown())
    assert desk.wait().status is RUNNING
    assert desk.acts == ["afford 15.5 7", "InstanceStarted", "afford 15.5 7", "lease", "start"]
    assert desk.reporter.notes == [
        "instance 7001 is stopped; starting it again",
        f"instance 7001: {status}",
        "instance 7001: running",
    ]
    assert desk.clock.slept == [2.0] * 4


def test_one_whose_disk_has_no_price_is_afforded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Startable(monkeypatch, shown(STOPPED, intended_status="stopped", disk_usd_per_hour=None), shown())
    desk.wait()
    assert desk.acts[0] == "afford 16 7"


@pytest.mark.parametrize(
    ("look", "error", "words"),
    [
        (shown(OFFLINE, status_message="no heartbeat"), InstanceDead, "7001 will not run: offline: no heartbeat"),
        (shown(EXITED), InstanceDead, "instance 7001 will not run: exited"),
        (shown(UNKNOWN, failure="no such image"), ProviderUnavailable, "will not run: .*: no such image"),
        (shown(UNKNOWN, status_message="pulling"), ProviderUnavailable, "is unknown after 1200 s: pulling"),
        (shown(endpoints=()), ProviderUnavailable, "is running after 1200 s"),
    ],
)
def test_one_that_will_not_run_is_told(
    monkeypatch: pytest.MonkeyPatch, look: Instance, error: type[Exception], words: str
) -> None:
    desk = Startable(monkeypatch, look)
    with pytest.raises(error, match=words):
        desk.wait()
    assert "start" not in desk.acts
    waits = "after 1200 s" in words
    assert (1200 < desk.clock.monotonic() <= 1204) if waits else desk.clock.slept == []


@pytest.mark.parametrize(
    ("starts", "anew", "raises"), [(0, True, True), (1, False, True), (1, True, False)],
    ids=["never started", "no other keys", "other keys of our own start"],
)  # fmt: skip
def test_new_host_keys_are_believed_after_our_own_start_alone(
    monkeypatch: pytest.MonkeyPatch, starts: int, anew: bool, raises: bool
) -> None:
    desk, acts = Desk(pin=object()), list[str]()
    counted = iter([0, starts])
    desk.history.all = lambda _: [1] * next(counted)
    desk.public_key = "key"
    monkeypatch.setattr(desk, "provider", lambda: SimpleNamespace(
        attach_key=lambda _, key: acts.append(f"attach {key}"), host_key_source="by the log"
    ))  # fmt: skip
    monkeypatch.setattr(provision, "_wait_until_running", lambda *_: shown())
    monkeypatch.setattr(provision, "_pin_anew", lambda *_: anew)
    monkeypatch.setattr(provision, "_pin", lambda *_: acts.append("pin"))

    def log_in(*_: object) -> None:
        acts.append("log in")
        if acts.count("log in") == 1:
            raise HostKeyChanged("another")

    monkeypatch.setattr(provision, "_wait_for_login", log_in)
    if raises:
        with pytest.raises(HostKeyChanged):
            provision._make_ready(desk(), desk.reporter)
        assert acts == ["attach key", "log in"]
    else:
        provision._make_ready(desk(), desk.reporter)
        assert acts == ["attach key", "log in", "log in"]
        assert "shows new host keys: by the log" in desk.reporter.notes[0]


def test_one_without_a_pin_is_pinned_before_it_is_logged_in_to(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, acts = Desk(pin=None), list[str]()
    desk.history.all = lambda _: []
    monkeypatch.setattr(desk, "provider", lambda: SimpleNamespace(attach_key=lambda *_: acts.append("attach")))
    monkeypatch.setattr(provision, "_wait_until_running", lambda *_: shown())
    monkeypatch.setattr(provision, "_pin", lambda *_: acts.append("pin"))
    monkeypatch.setattr(provision, "_wait_for_login", lambda *_: acts.append("log in"))
    provision._make_ready(desk(), desk.reporter)
    assert acts == ["attach", "pin", "log in"]


@pytest.mark.parametrize(
    ("rented", "old", "acts"),
    [
        (True, False, ["ready"]),
        (False, False, ["find", "rent", "ready"]),
        (False, True, ["find"]),
    ],
    ids=["rented", "nothing rented", "preflight of long ago"],
)
def test_what_was_rented_is_found_before_anything_is(
    monkeypatch: pytest.MonkeyPatch, rented: bool, old: bool, acts: list[str]
) -> None:
    desk, done = Desk(rental=RENTAL if rented else None), list[str]()
    monkeypatch.setattr(provision, "find_rented", lambda *_: done.append("find"))
    monkeypatch.setattr(provision, "reopen_if_old", lambda *_: old)
    monkeypatch.setattr(provision, "rent", lambda *_: done.append("rent"))
    monkeypatch.setattr(provision, "_make_ready", lambda *_: done.append("ready"))
    provision.provision(desk(), desk.reporter, lambda _: None)
    assert done == acts


# --- keys -----------------------------------------------------------------------------------


def test_keys_that_the_provider_shows_are_pinned_and_waited_for() -> None:
    desk = Desk()
    desk.keys = [(), ProviderUnavailable("away"), ("ssh-ed25519 AAAA",)]
    provision._pin(desk(), InstanceId(7001), desk.reporter)
    assert desk.recorded == [Pinned(("ssh-ed25519 AAAA",), "read in the container log")]
    assert (desk.clock.slept, desk.reporter.notes) == ([2.0, 2.0], [])


def test_without_a_key_from_the_provider_the_first_one_is_pinned_and_that_is_said() -> None:
    desk = Desk()
    desk.keys = [()]
    provision._pin(desk(), InstanceId(7001), desk.reporter)
    assert desk.recorded == [Pinned(("ssh-ed25519 FIRST",), "first use")]
    assert 60 < desk.clock.monotonic() <= 64
    assert "shows no host key" in desk.reporter.notes[0]


@pytest.mark.parametrize(
    ("keys", "known", "pinned"),
    [((), ("a",), False), (("a",), ("a",), False), (("b",), ("a",), True), (("a",), None, True)],
)
def test_after_a_start_only_other_keys_are_pinned_anew(
    keys: tuple[str, ...], known: tuple[str, ...] | None, pinned: bool
) -> None:
    desk = Desk(pin=None if known is None else SimpleNamespace(keys=known))
    desk.keys = [keys]
    assert provision._pin_anew(desk(), InstanceId(7001)) is pinned
    assert desk.recorded == ([Pinned(keys, "read in the container log, after a start")] if pinned else [])


def _asks(answers: Iterable[object]) -> Callable[[], object]:
    told = iter(answers)

    def ask() -> object:
        answer = next(told)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def test_a_box_that_is_not_up_yet_is_asked_until_the_machines_deadline() -> None:
    desk = Desk()
    assert provision._patiently(desk(), _asks([HostUnreachable("refused"), HostUnreachable("refused"), 7])) == 7
    assert desk.clock.slept == [2.0, 2.0]
    with pytest.raises(HostUnreachable, match="refused"):
        provision._patiently(desk(), _asks(HostUnreachable("refused") for _ in range(1000)))
    assert desk.job.machine.ready_timeout_s < desk.clock.monotonic() <= desk.job.machine.ready_timeout_s + 8


def test_a_box_that_shows_another_key_is_not_asked_again() -> None:
    desk = Desk()
    with pytest.raises(HostKeyChanged):
        provision._patiently(desk(), _asks([HostKeyChanged("another"), 7]))
    assert desk.clock.slept == []


# --- does it stay dead ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("looks", "dead", "note"),
    [
        ([None], True, ""),
        ([shown()], False, "instance 7001 is running again"),
        ([shown(OFFLINE), shown(OFFLINE), shown()], False, "instance 7001 is running again"),
        ([shown(OFFLINE), None], True, "watching for"),
        ([shown(EXITED)], True, "watching for"),
    ],
)
def test_a_dead_one_is_watched_for_its_time(looks: list[object], dead: bool, note: str) -> None:
    desk = Desk(*looks)
    assert replacement._stays_dead(desk(), InstanceId(7001), desk.reporter) is dead
    assert (note in desk.reporter.notes[-1]) if note else desk.reporter.notes == []
    assert len(desk.reporter.notes) <= 2
    limit = desk.job.limits.dead_after_s
    if len(looks) == 1 and looks[0] is not None and dead:
        assert limit < desk.clock.monotonic() <= limit + 4


def test_one_whose_destruction_was_asked_for_is_not_watched() -> None:
    desk = Desk(shown(), destroy_intended=True)
    assert replacement._stays_dead(desk(), InstanceId(7001), desk.reporter) is True
    assert desk.clock.slept == []


def test_where_the_training_goes_on_is_told() -> None:
    told = Resumable(cast("Any", {"sft": 330, "dpo": 40}), {})
    assert replacement.where_it_goes_on(told) == ("the training goes on from dpo step 40, which is mirrored here")
    assert replacement.where_it_goes_on(told, another=True).endswith("begins anew: the package is another one")
    assert replacement.where_it_goes_on(None).endswith("nothing that it could go on from is mirrored here")


def test_another_instance_may_cost_what_is_left_of_the_budget_and_no_cent_more() -> None:
    desk = Desk()
    left = desk.job.limits.budget_usd - replacement._needed(desk(), None)
    replacement._require_budget(desk(), left, None)
    with pytest.raises(GateHeld, match=f"over the budget: \\${left + 0.01:.2f} are spent"):
        replacement._require_budget(desk(), left + 0.01, None)


@pytest.mark.parametrize(
    ("lost", "repackaged", "goes_on"), [(None, False, False), (1, False, True), (1, True, False), (None, True, False)]
)
def test_only_a_lost_instances_checkpoints_of_the_same_package_are_gone_on_from(
    monkeypatch: pytest.MonkeyPatch, lost: object, repackaged: bool, goes_on: bool
) -> None:
    mirrored = Resumable(cast("Any", {"sft": 100}), {})
    monkeypatch.setattr(replacement, "to_resume", lambda _: mirrored)
    found = replacement.to_go_on_from(Desk(lost=lost, repackaged=repackaged)())
    assert found == (mirrored if goes_on else None)


class Dying(Desk):
    """A desk of a dead instance: what is asked, agreed to and done about it is listed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, how: str | None, dead: bool = True, offers: int = 1) -> None:
        rental = SimpleNamespace(instance_id=InstanceId(7001), offer={"machine_id": 12})
        super().__init__(alive=rental, package="the package")
        self.acts = list[str]()
        shown = SimpleNamespace(offers=("an offer",) * offers, agreed=lambda by: f"agreed by {by}")
        monkeypatch.setattr(replacement, "to_resume", lambda _: None)
        monkeypatch.setattr(renting, "on_offer", lambda *_: ())
        monkeypatch.setattr(replacement, "_another", lambda *_: shown)
        monkeypatch.setattr(renting, "ask", self._asked(how))
        monkeypatch.setattr(replacement, "_require_budget", lambda *_: self.acts.append("budget"))
        monkeypatch.setattr(replacement, "_stays_dead", lambda *_: dead)
        monkeypatch.setattr(destroy, "replace", self._destroyed)
        monkeypatch.setattr(switch, "revoke", lambda *_: self.acts.append("revoke"))

    def _asked(self, how: str | None) -> Callable[..., str | None]:
        def ask(*_: object) -> str | None:
            self.acts.append("ask")
            return how

        return ask

    def _destroyed(self, *_: object, how: str, machine_id: int, package: str) -> None:
        self.acts.append(f"destroy {how} {machine_id} {package}")

    def record(self, event: object) -> None:
        self.acts.append(str(event))

    def forget_connections(self) -> None:
        self.acts.append("forget")


@pytest.mark.parametrize(
    ("how", "dead", "offers", "goes_on", "acts"),
    [
        (None, True, 1, False, ["ask"]),
        ("yes", False, 1, True, ["ask", "budget"]),
        ("yes", True, 1, True, [
            "ask", "budget", "agreed by yes", "destroy yes 12 the package", "revoke", "forget",
        ]),
        ("yes", True, 0, True, ["ask", "budget", "destroy yes 12 the package", "revoke", "forget"]),
    ],
    ids=["nobody agrees", "alive again", "given up", "given up, none on offer"],
)  # fmt: skip
def test_a_dead_one_is_given_up_by_agreement_within_the_budget_once_it_stays_dead(  # noqa: PLR0917 - a row of a table
    monkeypatch: pytest.MonkeyPatch, how: str | None, dead: bool, offers: int, goes_on: bool, acts: list[str]
) -> None:
    desk = Dying(monkeypatch, how=how, dead=dead, offers=offers)
    went_on = replacement.replace(desk(), desk.reporter, InstanceDead("it died"), replacement.NOBODY_AGREES, 1.0)
    assert (went_on, desk.acts) == (goes_on, acts)
    assert len(desk.reporter.notes) == (0 if "budget" in acts and len(acts) == 2 else 1)


def test_an_adopted_job_rents_no_other() -> None:
    desk = Desk()
    desk.job = desk.job.model_copy(update={"adopted": True})
    dead = InstanceDead("it is gone")
    assert replacement.replace(desk(), desk.reporter, dead, replacement.NOBODY_AGREES, 1.0) is False
    assert replacement.replace(Desk(alive=None)(), desk.reporter, dead, replacement.NOBODY_AGREES, 1.0) is False
