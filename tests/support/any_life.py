"""Any life of a job: two operators at one store, a provider that lies, clocks that jump, machines and files that go.

Hypothesis draws the life; what must hold in each is held after every step, and in the end the world is honest again
and the job is brought to its end by typing what it says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from harness.core.errors import AmbiguousCreate, HarnessError, JobBusy, ProviderUnavailable
from harness.core.ids import InstanceId
from harness.core.lifecycle import ORDER, Stage
from harness.core.ports import InstanceStatus, Listing
from harness.core.verdict import Verdict
from harness.gates import judge
from harness.gates.evidence import CheckResult, GateResult
from harness.ledger import events
from harness.ledger.codec import decode
from harness.release import release as releases
from tests.support import job_histories
from tests.support.context import Killed
from tests.support.fault_port import FaultPort, How
from tests.support.scripted_world import MODEL, offer
from tests.support.whole_job import Desk, Metered, make_desk

OPERATORS = st.sampled_from([0, 1])
LOSS = "I accept the loss of everything on instance {}"


class AnyLife(RuleBasedStateMachine):
    """A job, and all that may happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="any-life-"))
        self.patch = pytest.MonkeyPatch()
        first = make_desk(self.folder, self.patch, limits={"relaunches": 99})
        self.world = first.world
        self.desks = [first, Desk(self.world)]
        assert isinstance(self.world.market, Metered)
        self.market = self.world.market
        self.market.before_destroy = self._safe_to_destroy
        self.cut = False
        self.world.box.reachable = lambda: not self.cut and bool(self.market.billing())
        self.passes: Counter[Stage] = Counter()
        self.bent: dict[Stage, list[Verdict]] = {}
        self.patch.setattr(judge, "judge", self._judge)
        self.market.on_rent = self._is_rented

    # --- the world ----------------------------------------------------------------------------

    def _is_rented(self) -> None:
        """Another machine: nothing of an earlier one is on it. Nor does the market ever run out of machines."""
        self.market.offers.append(offer(600 + self.market.created))
        box = self.world.box
        shutil.rmtree(box.root)
        box.root.mkdir()
        box.started, box.alive, box.exit_status, box.looks = False, False, None, 0

    def _judge(self, facts: Path) -> GateResult:
        """A gate: what it must see with its own eyes it sees; else it passes, unless it was bent."""
        stage = Stage(json.loads(facts.read_bytes())["stage"])
        self.world.judged.append(stage)  # what names the next facts
        drawn = self.bent.get(stage)
        verdict = drawn.pop(0) if drawn else self._seen(stage)
        name = min(job_histories.gate(stage, self.world.job).required)
        bent: tuple[CheckResult, ...] = ()
        if verdict is not Verdict.PASS:
            bent = (job_histories.check(stage, name, verdict),)
        else:
            self.passes[stage] += 1
        return job_histories.gate(stage, self.world.job, *bent)

    def _seen(self, stage: Stage) -> Verdict:
        box, history = self.world.box, self.world.history
        if stage is Stage.POSTDOWNLOAD:
            fetched, artifact = history.fetched, history.artifact
            sound = fetched is not None and artifact is not None and _sha256(Path(fetched.path)) == artifact.sha256
        elif stage is Stage.POSTTRAIN:
            sound = history.artifact is not None and history.artifact.sha256 == _sha256(box.artifact)
        elif stage is Stage.TRAINING:
            sound = box.exit_status == 0
        elif stage is Stage.TEARDOWN:
            sound = history.destroyed is not None and history.destroyed.billing is not None
        else:
            return Verdict.PASS
        return Verdict.PASS if sound else Verdict.FAIL

    def _safe_to_destroy(self, instance_id: InstanceId) -> None:
        """I1: no destroy without a verified file at home, or an accepted loss, or nothing to lose."""
        history = self.world.history
        assert history.destroy_intended, "destroyed without a recorded intent"
        at_home = history.verified is not None and _sha256(Path(history.verified.path)) == history.verified.sha256
        accepted = any(one.instance_id == instance_id for one in history.all(events.LossAccepted))
        assert at_home or accepted or not self.world.box.artifact.exists(), f"{instance_id} is destroyed with its model"

    def _type(self, who: int, command: Callable[[Desk], None], port: FaultPort | None = None) -> None:
        desk = self.desks[who]
        desk.port = port or FaultPort()
        try:
            command(desk)
        except (Killed, HarnessError, OSError):
            pass
        finally:
            desk.port = FaultPort()

    @property
    def _alive(self) -> InstanceId | None:
        return next(iter(self.market.rented), None)

    def _lie(self, method: str, outcome: object, times: int, *, commit: bool = False) -> None:
        """One lie of a kind at a time: a provider that lies for ever lies about everything."""
        provider = self.world.provider
        provider.faults = [one for one in provider.faults if one.method != method]
        provider.break_(method, outcome, times=times, commit=commit)

    @property
    def closed(self) -> bool:
        """The job is over."""
        return self.world.history.closed

    # --- what happens -------------------------------------------------------------------------

    @initialize()
    def begins(self) -> None:
        self.world.open()

    @rule(who=OPERATORS, until=st.none() | st.sampled_from(ORDER))
    def runs(self, who: int, until: Stage | None) -> None:
        self._type(who, lambda desk: desk.run(until=until))

    @rule(who=OPERATORS, at=st.integers(1, 400), how=st.sampled_from(How))
    def is_struck(self, who: int, at: int, how: How) -> None:
        self._type(who, Desk.run, FaultPort(at, how))

    @rule(who=OPERATORS, at=st.integers(1, 400), what=st.sampled_from([Desk.run, Desk.destroy, Desk.abandon]))
    def both_type(self, who: int, at: int, what: Callable[[Desk], None]) -> None:
        """The other one types something in the midst of it: refused, as long as the first process lives."""
        other = self.desks[1 - who]

        def meanwhile(number: int) -> None:
            if number == at:
                with pytest.raises(JobBusy):
                    what(other)

        self._type(who, Desk.run, FaultPort(between=meanwhile))

    @rule(who=OPERATORS)
    def opens(self, who: int) -> None:
        """A process reads the log and is slow to take the lock."""
        self.desks[who].open()

    @rule(who=OPERATORS, at=st.none() | st.integers(1, 60), how=st.sampled_from(How))
    def destroys(self, who: int, at: int | None, how: How) -> None:
        self._type(who, Desk.destroy, FaultPort(at or 0, how))

    @rule(who=OPERATORS, accepts=st.booleans(), at=st.none() | st.integers(1, 40), how=st.sampled_from(How))
    def abandons(self, who: int, accepts: bool, at: int | None, how: How) -> None:
        loss = LOSS.format(self._alive) if accepts else None
        self._type(who, lambda desk: desk.abandon(loss), FaultPort(at or 0, how))

    @rule(who=OPERATORS)
    def replaces(self, who: int) -> None:
        self._type(who, lambda desk: desk.run(replace=True, loss=LOSS.format(self._alive)))

    @rule(who=OPERATORS, until=st.sampled_from(ORDER))
    def says_no(self, who: int, until: Stage) -> None:
        """A run by somebody who agrees to no rental."""
        self._type(who, lambda desk: desk.run(until=until, rent=False))

    @rule(usd_per_hour=st.sampled_from([12.0, 15.9, 15.95]), gone=st.integers(0, 2))
    def market_moves(self, usd_per_hour: float, gone: int) -> None:
        """Offers change their price, and some are taken by others; it never runs out of them."""
        kept = self.market.offers[min(gone, len(self.market.offers) - 1) :]
        self.market.offers = [dataclasses.replace(one, usd_per_hour=usd_per_hour) for one in kept]

    @rule(hours=st.sampled_from([-48.0, -6.0, -0.2, 0.0, 0.2, 6.0, 48.0]))
    def clock_is_set(self, hours: float) -> None:
        self.world.clock.set(hours * 3600)

    @rule(seconds=st.sampled_from([1.0, 70.0, 900.0, 5000.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.turn(seconds)

    @rule(times=st.integers(1, 2))
    def lists_nothing(self, times: int) -> None:
        self._lie("instances", Listing(()), times)

    @rule(times=st.integers(1, 3))
    def hides(self, times: int) -> None:
        """The API answers 404 for an instance that lives."""
        self._lie("instance", None, times)

    @precondition(lambda self: self._alive is not None)
    @rule(times=st.integers(1, 3), status=st.sampled_from(InstanceStatus))
    def shows_a_stale_row(self, times: int, status: InstanceStatus) -> None:
        assert self._alive is not None
        row = self.market.rented[self._alive]
        self._lie("instance", dataclasses.replace(row, status=status), times)

    @rule(commit=st.booleans(), times=st.integers(1, 2))
    def loses_the_reply_of_the_create(self, commit: bool, times: int) -> None:
        self._lie("create", AmbiguousCreate("no reply"), times if not commit else 1, commit=commit)

    @rule(method=st.sampled_from(["destroy", "stop", "start", "account", "charges"]), commit=st.booleans())
    def loses_a_reply(self, method: str, commit: bool) -> None:
        self._lie(method, ProviderUnavailable("no reply"), 1, commit=commit)

    @rule(seconds=st.sampled_from([0.0, 100.0]))
    def bill_is_late(self, seconds: float) -> None:
        self.market.late_s = seconds

    @precondition(lambda self: self._alive is not None)
    @rule(factor=st.sampled_from([0.5, 1.3, 10.0]))
    def price_changes(self, factor: float) -> None:
        assert self._alive is not None
        self.market.change(self._alive, usd_per_hour=self.market.rented[self._alive].usd_per_hour * factor)

    @precondition(lambda self: self._alive is not None)
    @rule(status=st.sampled_from([InstanceStatus.STOPPED, InstanceStatus.OFFLINE, InstanceStatus.RUNNING]))
    def somebody_changes_it(self, status: InstanceStatus) -> None:
        assert self._alive is not None
        wish = "stopped" if status is InstanceStatus.STOPPED else "running"
        self.market.change(self._alive, status=status, intended_status=wish)

    @precondition(lambda self: self._alive is not None)
    @rule()
    def somebody_destroys_it(self) -> None:
        assert self._alive is not None
        self.market.vanish(self._alive)

    @rule()
    def line_is_cut(self) -> None:
        self.cut = not self.cut

    @rule(stage=st.sampled_from(ORDER), verdict=st.sampled_from([Verdict.FAIL, Verdict.UNKNOWN]))
    def gate_will_not_pass(self, stage: Stage, verdict: Verdict) -> None:
        self.bent.setdefault(stage, []).append(verdict)

    @precondition(lambda self: not self.closed and self.world.history.fetched is not None)
    @rule(how=st.sampled_from(["removed", "emptied", "replaced", "changed"]))
    def file_is_spoilt(self, how: str) -> None:
        history = self.world.history
        assert history.fetched is not None
        path = Path(history.fetched.path)
        if history.destroyed is not None or not path.exists() or not self.market.rented:
            return  # the last copy: nothing brings that back
        path.chmod(0o644)
        if how in {"emptied", "changed"}:
            path.write_bytes(b"" if how == "emptied" else b"?" + MODEL[1:])
            return
        path.unlink()
        if how == "replaced":
            path.write_bytes(b"GGUF of another")

    # --- what holds ---------------------------------------------------------------------------

    @invariant()
    def one_at_most_bills_and_none_is_unknown(self) -> None:
        """I2."""
        assert self.market.most_at_once <= 1, "two instances of the job billed at one time"
        labels = self.world.history.labels if self.world.store.records(self.world.job.name) else ()
        for one in self.market.rented.values():
            assert one.label in labels, f"instance {one.id} is unknown to the ledger"

    @invariant()
    def what_is_closed_is_whole(self) -> None:
        """I3."""
        if not self.world.store.records(self.world.job.name) or not self.closed:
            return
        history = self.world.history
        assert history.verified is not None
        assert history.release_path is not None
        release = releases.read(Path(history.release_path))
        assert releases.file_problem(release, Path(history.verified.path)) is None
        assert not self.market.rented, "the job is closed, and its instance lives"

    @invariant()
    def a_gate_passes_by_a_look_of_its_own(self) -> None:
        """I4."""
        passed: Counter[Stage] = Counter()
        looks = set()
        for record in self.world.store.records(self.world.job.name):
            event = decode(record)
            if isinstance(event, events.GateJudged) and event.verdict is Verdict.PASS:
                passed[event.stage] += 1
                assert event.facts_path not in looks, "one look opened two gates"
                looks.add(event.facts_path)
        for stage, count in passed.items():
            assert count <= self.passes[stage], f"gate {stage} is recorded as passed, and was not"

    @invariant()
    def recorded_is_what_was_charged(self) -> None:
        """I5: of each instance once, and all of it."""
        proven: Counter[InstanceId] = Counter()
        for record in self.world.store.records(self.world.job.name):
            event = decode(record)
            if isinstance(event, events.Destroyed | events.Abandoned | events.Lost) and event.billing is not None:
                usd = event.billing["looks"][-1]["usd"]
                assert usd == pytest.approx(self.market.charged(event.instance_id)), "another cost is recorded"
                proven[event.instance_id] += 1
        assert max(proven.values(), default=0) <= 1, "the end of an instance is recorded twice"

    @invariant()
    def nothing_is_rented_without_a_plan(self) -> None:
        """I6: before each rent stands a plan that was agreed to and shows that offer, at no lower a price."""
        shown: dict[Any, float] = {}
        for record in self.world.store.records(self.world.job.name):
            event = decode(record)
            if isinstance(event, events.PlanAgreed):
                shown = {one["id"]: one["usd_per_hour"] for one in event.offers}
            elif isinstance(event, events.RentIntended):
                assert event.offer["usd_per_hour"] <= shown.get(event.offer["id"], 0.0), "rented without a plan"
            elif isinstance(event, events.Rented | events.PlanRefused):
                shown = {}

    def teardown(self) -> None:
        """I7: honest again, the world lets the job come to its end by what it says, and by nothing else."""
        try:
            if self.world.store.records(self.world.job.name):
                self._come_to_the_end()
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _come_to_the_end(self) -> None:
        self.world.provider.faults.clear()
        self.bent.clear()
        self.cut = False
        self.market.late_s = 0.0
        self.world.clock.set(0.0)
        for one in self.market.rented.values():
            if one.status is InstanceStatus.OFFLINE:
                self.market.change(one.id, status=InstanceStatus.RUNNING)
        self.desks[0].go_on(most=20)
        self.one_at_most_bills_and_none_is_unknown()
        self.what_is_closed_is_whole()
        self.a_gate_passes_by_a_look_of_its_own()
        self.nothing_is_rented_without_a_plan()
        self.recorded_is_what_was_charged()


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
