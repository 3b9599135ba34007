"""Budget of a run: its cost and its training's time, by clocks that nobody sets, against the job's limits.

Within a run time is monotonic. What was spent before it is told by the provider's own times and bill, as far as
they are to be had. The wall clock of this machine decides nothing: where it disagrees, that is said.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.context import RunnerContext
from harness.core.errors import HarnessError
from harness.core.lifecycle import Stage
from harness.core.money import seconds_for, usd
from harness.core.ports import Instance, InstanceStatus
from harness.core.rate import Meter
from harness.core.text import human_seconds
from harness.gates.evidence import GateResult
from harness.ledger.billing import ProviderBooks, spent_by
from harness.ledger.events import Adopted, BudgetNear, InstanceStarted, Rented
from harness.ledger.locks import LEASE_S
from harness.runner import stopping, switch
from harness.runner.progress import ProgressReporter

_GLANCE_S = 1.0
"""Seconds between two looks at the clock: a transfer tells of its progress many times a second."""
_APART_S = 120.0
"""Seconds by which two clocks may disagree unsaid."""
_NEAR = 0.8
"""Share of the budget from which on it is said that the cap is near."""
_AGREED = 1.01
"""Share of the agreed price up to which a bill is as agreed: it is rounded."""


class BudgetWatch:
    """Watch over what one run of a job spends; whatever takes long looks at it in between."""

    def __init__(self, context: RunnerContext, reporter: ProgressReporter) -> None:
        self._context = context
        self._reporter = reporter
        self._began = context.clock.monotonic(), context.clock.now()
        self._usd: float | None = None
        self._billed = False
        self._seen_at = self._began[0]
        self._asked_at: float | None = None
        self._shown: Instance | None = None
        self._price = 0.0
        self._launched_at: float | None = None
        self._training_began = self._began[0]
        self._drift = 0.0
        self._near: float | None = None

    @property
    def usd(self) -> float:
        """Cost of the job so far (USD)."""
        return self._advance()

    @property
    def training_s(self) -> float:
        """Seconds since the training was launched last, or its box was started; 0 before."""
        self._advance()
        return 0.0 if self._launched_at is None else self._seen_at - self._training_began

    @property
    def left_s(self) -> float:
        """Seconds until the budget is used up, at the present price; at least one."""
        left = self._context.job.limits.budget_usd - self._advance()
        return max(1.0, seconds_for(left, self._price))

    def glance(self) -> None:
        """``check``, unless it was a moment ago."""
        if self._context.clock.monotonic() - self._seen_at >= _GLANCE_S:
            self.check()

    def check(self, *, training: bool = False) -> None:
        """Hold the job, its instance stopped and the disk kept, when a limit is used up: raises GateHeld.

        ``training``: its deadline counts, too. The price is read anew as often as the job looks at its box.
        """
        spent, limits = self._advance(), self._context.job.limits
        self._context.require_lease(within_s=LEASE_S / 2)
        self._judge_price()
        if spent >= limits.budget_usd:
            over = f"${spent:.2f} are spent, the budget is ${limits.budget_usd:.2f}"
            stopping.stop_over(self._context, self._reporter, over, "limits.budget_usd")
        self._say_near(spent)
        if training and self.training_s > limits.training_deadline_s:
            over = f"the training takes longer than {limits.training_deadline_s:.0f} s"
            stopping.stop_over(self._context, self._reporter, over, "limits.training_deadline_s")

    def _advance(self) -> float:
        """Count the time since the last look, at the price that was seen then: in doubt whether it bills, it does."""
        history, now = self._context.history, self._context.clock.monotonic()
        bills = history.alive is not None and not history.instance_stopped
        if history.alive is not None and self._price < history.alive.usd_per_hour:
            self._price = history.alive.usd_per_hour
        if self._usd is None:
            self._usd = self._before()
        elif bills or self._billed:
            passed = now - self._seen_at
            if history.alive is not None and not self._billed:  # the look before a rent is not billed
                passed = min(passed, max(0.0, self._context.clock.now() - history.alive.at))
            self._usd += usd(passed, self._price)
        if history.launched_at != self._launched_at:  # by this run
            self._launched_at, self._training_began = history.launched_at, now
        self._billed, self._seen_at = bills, now
        self._say_drift(now)
        return self._usd

    def _before(self) -> float:
        """Cost of the job before this run (USD), and the time that its training has had, by the provider's word."""
        history, now = self._context.history, self._context.clock.now()
        books = self._books()
        if books.now is not None and abs(now - books.now) > _APART_S:
            self._reporter.note(f"this machine's clock is {_apart(now - books.now)} of the provider's: {_UNHEEDED}")
        if history.launched_at is not None:
            self._launched_at = history.launched_at
            self._training_began = self._began[0] - books.seconds_since(history.launched_at, now)
        return spent_by(history, now, books)

    def _books(self) -> ProviderBooks:
        """The provider's time, and what it knows of the job's instances; without a rental nobody is asked."""
        history = self._context.history
        if not history.all(Rented) + history.all(Adopted):
            return ProviderBooks()
        try:
            provider = self._context.provider()
            now = provider.account().at
            shown = self._look()
            had = {one.instance_id for one in history.all(Rented) + history.all(Adopted)}
            charged = sum(charge.usd for one in had for charge in provider.charges(one))
        except HarnessError:
            return ProviderBooks()  # who cannot be asked is asked for something else soon, and that says so
        started_at = shown.started_at if shown is not None else None
        return ProviderBooks(now, started_at, charged, switch.ran_until(history, shown))

    def _look(self) -> Instance | None:
        """The instance's row, read anew as often as the job looks at its box; None when it does not show."""
        context, now = self._context, self._context.clock.monotonic()
        rental = context.history.alive
        if rental is None or (self._asked_at is not None and now - self._asked_at < context.job.limits.poll_s):
            return self._shown
        self._asked_at = now
        try:
            self._shown = context.provider().instance(rental.instance_id)
        except HarnessError:
            return self._shown
        if self._shown and self._shown.status is InstanceStatus.RUNNING and context.history.instance_stopped:
            context.record(InstanceStarted(rental.instance_id))  # behind our back
        return self._shown

    def _judge_price(self) -> None:
        """A price above what was agreed is said, and counted from then on; one above the job's cap holds it."""
        context, shown = self._context, self._look()
        rental = context.history.alive
        if rental is None or shown is None or shown.id != rental.instance_id:
            return
        price = shown.usd_per_hour
        if price > max(self._price, rental.usd_per_hour) * _AGREED:
            self._reporter.note(f"the price was raised: ${price:.2f}/h, ${rental.usd_per_hour:.2f}/h was agreed")
        self._price = max(price, rental.usd_per_hour)
        cap = max(context.job.machine.max_usd_per_hour, rental.usd_per_hour)
        if price > cap * _AGREED:
            over = f"${price:.2f}/h is billed, the cap is ${cap:.2f}/h"
            stopping.stop_over(context, self._reporter, over, "machine.max_usd_per_hour")

    def _say_near(self, spent: float) -> None:
        """That most of the budget is spent is recorded and said once, and again after it was raised."""
        budget, history = self._context.job.limits.budget_usd, self._context.history
        if spent < _NEAR * budget or self._near == budget or history.alive is None or history.instance_stopped:
            return
        self._near = budget
        if any(near.budget_usd == budget for near in history.all(BudgetNear)):
            return
        self._context.record(BudgetNear(spent, budget))
        left = seconds_for(budget - spent, self._price)
        self._reporter.note(
            f"${spent:.2f} of the budget of ${budget:.2f} are spent: at ${self._price:.2f}/h the rest lasts "
            f"{human_seconds(left)}, then the instance is stopped, its disk kept"
        )

    def _say_drift(self, now: float) -> None:
        """A wall clock that was set in mid-run is said, each time."""
        drift = (self._context.clock.now() - self._began[1]) - (now - self._began[0])
        if abs(drift - self._drift) > _APART_S:
            self._reporter.note(f"this machine's clock was set to {_apart(drift - self._drift)}: {_UNHEEDED}")
            self._drift = drift


_UNHEEDED = "budget and deadlines do not go by it"


def _apart(seconds: float) -> str:
    return f"{abs(seconds) / 60:.0f} min {'ahead' if seconds > 0 else 'behind'}"


@dataclass(frozen=True, slots=True)
class WatchedReporter:
    """A ``ProgressReporter`` that looks at the budget with every word of something long: none can forget to."""

    inner: ProgressReporter
    budget: BudgetWatch

    def stage(self, stage: Stage) -> None:
        """Pass it on."""
        self.inner.stage(stage)

    def note(self, text: str) -> None:
        """Pass it on."""
        self.inner.note(text)

    def meter(self, meter: Meter, done: int, total: int, detail: str = "") -> None:
        """Pass it on; raises GateHeld when the budget is used up."""
        self.inner.meter(meter, done, total, detail)
        if done < total:  # what is complete needs no box any more
            self.budget.glance()

    def judged(self, stage: Stage, gate: GateResult) -> None:
        """Pass it on."""
        self.inner.judged(stage, gate)
