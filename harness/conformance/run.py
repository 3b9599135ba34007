"""One run: what is free is tried, a box is rented, tried and given back, and every row gets its answer.

Whatever breaks it off, Ctrl-C and the budget's end too, the instance is asked to go before anything else is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

from harness.conformance.bench import DISK_GB, TRAFFIC_BYTES, OverBudget, RunBench, revoke_keys
from harness.conformance.trials import SHARED
from harness.core.errors import (
    AmbiguousCreate,
    BadInput,
    GateHeld,
    HarnessError,
    HostKeyChanged,
    NoAnswer,
    NotProven,
    OfferGone,
    ProviderUnavailable,
)
from harness.core.money import for_traffic, per_gpu, per_hour, seconds_for, usd
from harness.core.ports import Clock, CreateRequest, Offer, OfferQuery
from harness.core.text import printable
from harness.guard import throwaway as guard
from harness.ledger.ownership import Known
from harness.ledger.throwaway import Throwaway, TrialStep
from harness.providers.assumptions import Assumption, CannotTry, Phase, Subject, Trial

LEAST_S, MOST_S = 900.0, 2400.0
"""Seconds that a box is rented for at least, or it is not worth it, and at most."""
RESERVE_S = 600.0
"""Seconds at its price that are kept back for a provider which is slow to end it."""
_REQUESTS = 3
_SHOWN_OFFERS = 3
_LEAST_USD_PER_GPU_HOUR, _MOST_USD_PER_GB = 0.01, 0.05


class Outcome(StrEnum):
    """Answer to one row."""

    HOLDS = "holds"
    WRONG = "does not hold"
    UNTRIED = "could not be tried"


@dataclass(frozen=True, slots=True)
class Answer:
    """A row and what was seen of it, or why nothing was. ``meant``: the run meant to try it."""

    row: Assumption
    outcome: Outcome
    seen: str
    meant: bool = True


@dataclass(frozen=True, slots=True)
class ConformancePlan:
    """Everything that is agreed to: the offers, the best first, and the budget (USD), which says for how long."""

    offers: tuple[Offer, ...]
    budget: float

    def seconds(self, offer: Offer) -> float:
        """Seconds until the instance is asked to go."""
        paid = seconds_for(self.budget - for_traffic(TRAFFIC_BYTES, offer.usd_per_gb_down), offer.usd_per_hour)
        return min(MOST_S, paid - RESERVE_S)

    def most(self, offer: Offer) -> float:
        """Everything that this offer can cost (USD): its time, the reserve, the traffic."""
        held = usd(self.seconds(offer) + RESERVE_S, offer.usd_per_hour)
        return held + for_traffic(TRAFFIC_BYTES, offer.usd_per_gb_down)


def plan(subject: Subject, budget: float, gpus: Sequence[str] = ()) -> ConformancePlan:
    """The offers that fit the budget: those with a direct port first, then the cheapest. Raises GateHeld for none."""
    query = OfferQuery(tuple(gpus) or subject.gpus, 1, DISK_GB, per_hour(budget / (LEAST_S + RESERVE_S)))
    drafted = ConformancePlan((), budget)
    fitting = [
        one
        for one in subject.provider.search(query)
        if per_gpu(one.usd_per_hour, one.num_gpus) >= _LEAST_USD_PER_GPU_HOUR
        and 0 <= one.usd_per_gb_down <= _MOST_USD_PER_GB
        and drafted.seconds(one) >= LEAST_S
    ]
    if not fitting:
        raise GateHeld(
            f"no offer of {', '.join(query.gpu_names)} fits: at most ${query.max_usd_per_hour:.2f}/h, so that the "
            f"budget of ${budget:.2f} pays for {(LEAST_S + RESERVE_S) / 60:.0f} minutes and the image",
            remedy="Give a larger --budget, or name what is on offer with --gpu, and run the same command again.",
        )
    fitting.sort(key=lambda one: (one.direct_ports == 0, one.usd_per_hour))
    return ConformancePlan(tuple(fitting[:_SHOWN_OFFERS]), budget)


@dataclass(slots=True)
class Conformance:
    """A run of all trials on a bench, within a plan that was agreed to. ``known``: everything that jobs have had."""

    bench: RunBench
    plan: ConformancePlan
    known: Known
    note: Callable[[str], None]
    _answers: dict[str, Answer] = field(default_factory=dict)

    def go(self) -> None:
        """Everything, from the free trials to the end of the bill; raises what broke it off, and NotProven."""
        with self.bench.run.alone():
            self._phase(Phase.BEFORE)
            try:
                self._rent()
                self._phase(Phase.CREATED)
                self._keep_to_the_price()
                self._phase(Phase.RUNNING)
                self._phase(Phase.RESTARTED)
            except OverBudget as over:
                self.note(f"{over}: the rest is not tried")
            except BaseException:
                self._give_back()
                raise
            self._give_back()
            if self.bench.run.instance_id is not None:
                self._phase(Phase.GONE)
            if self.bench.run.may_bill:
                raise NotProven(f"instance {self.bench.run.instance_id} is gone, but the end of its bill is not proven")

    def answers(self) -> tuple[Answer, ...]:
        """Every row with its answer."""
        return tuple(self._answers.get(row.id) or _unanswered(row) for row in self.bench.subject.assumptions)

    def _phase(self, phase: Phase) -> None:
        for trial in trials_of(self.bench.subject, phase):
            rows = [row for row in self.bench.subject.assumptions if row.trial == trial.name]
            if rows:
                outcome, seen = self._tried(trial)
                for row in rows:
                    self._answers[row.id] = Answer(row, outcome, printable(seen, 400))
                    self.note(f"{row.id} {outcome}: {row.claim} ({printable(seen, 200)})")

    def _tried(self, trial: Trial) -> tuple[Outcome, str]:
        try:
            self.bench.require_time()
            holds, seen = trial.attempt(self.bench)
        except OverBudget:
            raise
        except HostKeyChanged as wrong:
            return Outcome.WRONG, str(wrong)
        except ProviderUnavailable as error:  # an answer that is none: unless the provider cannot be asked at all
            asked = not isinstance(error, NoAnswer) and self._can_be_asked()
            return Outcome.WRONG if asked else Outcome.UNTRIED, str(error)
        except (CannotTry, HarnessError) as why:
            return Outcome.UNTRIED, str(why)
        except Exception as error:  # noqa: BLE001 - whatever it is, the instance goes in the end
            return Outcome.UNTRIED, f"{type(error).__name__}: {error}"
        return Outcome.HOLDS if holds else Outcome.WRONG, seen

    def _can_be_asked(self) -> bool:
        try:
            return self.bench.provider.account().user_id == self.bench.account.user_id
        except HarnessError:
            return False

    def _rent(self) -> None:
        """One of the plan's offers; raises OfferGone when all are gone, or whatever the provider said."""
        bench, run = self.bench, self.bench.run
        for offer in self.plan.offers:
            run.record(TrialStep.RENT_INTENDED, label=run.label, offer=asdict(offer))
            bench.began_at = bench.clock.monotonic()
            bench.ends_at = bench.began_at + self.plan.seconds(offer)
            bench.rented = offer
            try:
                number = bench.provider.create(offer.id, CreateRequest(bench.subject.image, DISK_GB, run.label))
            except OfferGone as error:
                run.record(TrialStep.NOT_RENTED, why=str(error))
                continue
            except AmbiguousCreate as error:
                bench.lost_reply = error
                self.note("the reply to the create tells no number: looking for the instance by its label")
                if guard.find(bench.provider, run, bench.clock) is None:
                    raise
            except (BadInput, ProviderUnavailable) as error:
                run.record(TrialStep.NOT_RENTED, why=str(error))
                raise
            else:
                run.record(TrialStep.RENTED, instance_id=number)
            self.note(f"rented instance {run.instance_id}: ${offer.usd_per_hour:.4f}/h")
            return
        raise OfferGone(f"{len(self.plan.offers)} offers were gone before they could be rented")

    def _keep_to_the_price(self) -> None:
        """Shorten the time where it costs more than it was offered for: the budget stands."""
        bench = self.bench
        with suppress(HarnessError, CannotTry):
            price = max(bench.offer.usd_per_hour, bench.shown().usd_per_hour)
            bench.ends_at = bench.began_at + self.plan.seconds(replace(bench.offer, usd_per_hour=price))

    def _give_back(self) -> None:
        """Ask for the destroy and prove that it is gone; raises NotProven, Refused."""
        bench, run = self.bench, self.bench.run
        bench.forget_box()
        bench.ends_at = None
        if not run.may_bill:
            return
        guard.find(bench.provider, run, bench.clock)
        bench.ended_at = bench.clock.monotonic()
        for left in reversed(range(_REQUESTS)):
            bench.until(self._ask, guard.DEADLINE_S)
            try:
                guard.prove_gone(bench.provider, run, bench.clock)
            except NotProven as error:
                if not left:
                    raise
                self.note(f"{error}; asking again")
            else:
                bench.gone_at = bench.clock.monotonic()
                bench.forget_key()
                self.note(f"instance {run.instance_id} is proven to be gone")
                return

    def _ask(self) -> bool | None:
        """One request; None where the provider could not even be asked whether it may go."""
        bench = self.bench
        try:
            reply = guard.ask(bench.provider, bench.run, self.known, self.note)
        except ProviderUnavailable as error:
            self.note(f"{error}; trying again")
            return None
        bench.replies += [] if reply is None else [reply]
        return True


def _unanswered(row: Assumption) -> Answer:
    why = "the run did not come to it" if row.trial else row.untried
    return Answer(row, Outcome.UNTRIED, why, meant=bool(row.trial))


def trials_of(subject: Subject, phase: Phase) -> Iterator[Trial]:
    """The trials of a moment, in order: those through the port, then the adapter's own."""
    for name, attempt in SHARED[phase].items():
        yield Trial(name, phase, attempt)  # type: ignore[arg-type]  # the shared ones ask more of the bench
    yield from (one for one in subject.own if one.phase is phase)


def end(subject: Subject, run: Throwaway, clock: Clock, known: Known, note: Callable[[str], None]) -> None:
    """End what a run that was cut off has left: its instance and its keys. Raises NotProven, Refused."""
    with run.alone():
        revoke_keys(subject, run)
        if run.may_bill and guard.find(subject.provider, run, clock) is not None:
            guard.ask(subject.provider, run, known, note)
            guard.prove_gone(subject.provider, run, clock)
            note(f"instance {run.instance_id} is proven to be gone")
            note(f"it was charged ${guard.prove_unbilled(subject.provider, run, clock).usd:.4f} in all, and no more")
