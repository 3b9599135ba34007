"""Renting: a plan that is shown and agreed to, and then, among the offers shown, at most one instance.

The commit point is ``plan_agreed``: nothing is asked for before it is recorded, and nothing that it does not cover.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.context import RunnerContext
from harness.core.errors import AmbiguousCreate, BadInput, GateHeld, HarnessError, OfferGone, Refused
from harness.core.ids import OfferId, label, new_nonce
from harness.core.money import per_gpu
from harness.core.ports import CreateRequest, Offer, OfferQuery, Provider
from harness.core.text import printable
from harness.job import estimate, layouts
from harness.job.forecast import Forecast, forecast
from harness.job.model import Job
from harness.ledger import predicted, timings
from harness.ledger.events import PlanAgreed, PlanRefused, RentFailed, RentIntended
from harness.ledger.history import History
from harness.runner.affording import require_affordable
from harness.runner.progress import ProgressReporter
from harness.runner.reconciling import find_rented, record_rented

TRIED = 5
"""Offers that are shown, and asked for one after the other."""
_ASKED = 5
"""Times that a plan is shown in one run, for offers that change while it is agreed to."""
_LEAST_USD_PER_GPU_HOUR = 0.01
"""Nobody rents a GPU out for less: such a price, and a negative one, is a slip or a bait."""
_BOUND = ("usd_per_hour", "usd_per_gb_up", "usd_per_gb_down", "disk_usd_per_hour")
"""Prices of an offer that may only fall after it was shown; one that was not told may not come up, nor vanish."""
_SAME = ("machine_id", "gpu_name", "num_gpus")
"""Fields of an offer that may not change after it was shown.

Reliability, line, disk and duration are measured anew all the time: they are bound to what the job demands of each,
by every search, or a plan would be asked for again and again.
"""
_HOLDS_S = 3600.0
"""Seconds that an agreement holds: long enough to prove a dead instance gone and judge preflight again for the next,
or to start a command again that was killed; a person who agreed longer ago may have thought better of it."""


@dataclass(frozen=True, slots=True)
class RentPlan:
    """Everything that is agreed to before an instance is rented: the offers, the best first, with a forecast each.

    ``meaning``: why another instance is needed and what that comes to, when it takes the place of a dead one.
    ``errors``: how far such forecasts were off, as ``predicted.errors``.
    """

    job: Job
    offers: tuple[Offer, ...]
    forecasts: tuple[Forecast, ...]
    meaning: str = ""
    errors: Mapping[str, tuple[float, int]] = dataclasses.field(default_factory=dict)

    def agreed(self, how: str) -> PlanAgreed:
        """The event that this plan was agreed to."""
        shown = tuple(dataclasses.asdict(offer) for offer in self.offers)
        parts = tuple({"parts": [dataclasses.asdict(part) for part in one.parts]} for one in self.forecasts)
        return PlanAgreed(how, shown, self.forecasts[0].usd, self.job.limits.budget_usd, parts)


@dataclass(frozen=True, slots=True)
class Beside:
    """A job by one strategy on the machine that it needs, the offer that ends it cheapest, and the forecast there."""

    job: Job
    offer: Offer
    forecast: Forecast


Ask = Callable[[RentPlan], str | None]
"""Shows a plan and asks: how it was agreed to, or None."""


def rent(
    context: RunnerContext, reporter: ProgressReporter, to_rent: Ask, planned: Callable[[Sequence[Offer]], RentPlan]
) -> None:
    """Rent one of the offers of the plan that was agreed to; one that was recorded before holds for what still shows.

    Others are shown, and asked for, in a plan of their own, as ``planned`` makes it.
    Raises GateHeld when no offer fits, Refused when nobody agrees, OfferGone when what was agreed to is gone.
    """
    job, gone, asked = context.job, set[OfferId](), 0
    while len(gone) < TRIED and asked <= _ASKED:
        look = on_offer if gone else fitting
        offers = [one for one in look(job, context.provider(), context.history) if one.id not in gone]
        agreed = standing(context.history, context.clock.now())
        covered = [one for one in offers if covers(agreed, one)][: TRIED - len(gone)]
        for offer in covered:
            if _take(context, offer, reporter):
                return
            gone.add(offer.id)
        if not offers:
            break
        if not covered:
            shown, asked = planned(offers), asked + 1
            require_affordable(context, shown.offers[0].usd_per_hour, shown.forecasts[0].usd)
            context.record(shown.agreed(_answer(context, to_rent, shown)))
    if not gone:
        raise OfferGone(f"the market changed after each of {asked} plans: none of their offers is left as it was shown")
    raise OfferGone(f"{len(gone)} offers were gone before they could be rented")


def ask(context: RunnerContext, to_rent: Ask, shown: RentPlan) -> str | None:
    """How the plan was agreed to, or None; that nobody did is recorded, whatever broke the question off."""
    how = None
    try:
        how = to_rent(shown)
    finally:
        if how is None and shown.offers:
            context.record(PlanRefused(shown.forecasts[0].usd))
    return how


def _answer(context: RunnerContext, to_rent: Ask, shown: RentPlan) -> str:
    """How the plan was agreed to; raises Refused when nobody agrees."""
    how = ask(context, to_rent, shown)
    if how is None:
        name = shown.job.name
        ahead = "--yes agrees in advance to the rental and to the destruction at the end"
        if shown.meaning:
            ahead = "--replace-dead-instance agrees in advance to another instance"
        raise Refused(
            "nobody agreed to the plan: nothing was rented, and nothing bills",
            remedy=f"harness run {name} asks on a terminal, harness run {name} {ahead}; harness plan {name} shows the "
            "plan again.",
        )
    return how


def plan(
    job: Job,
    offers: Sequence[Offer],
    earlier: Sequence[History],
    own: History | None,
    *,
    done: Mapping[str, int] = estimate.NOTHING,
    meaning: str = "",
) -> RentPlan:
    """The plan for the first of these offers. ``own`` is the job's log, ``earlier`` those of closed jobs like it.

    Raises BadInput for a model whose sizes cannot be predicted.
    """
    shown = tuple(offers[:TRIED])
    known = [timings.known(job, job, own, earlier, one.gpu_name) for one in shown]
    forecasts = tuple(forecast(job, one, took, done) for one, took in zip(shown, known, strict=True))
    return RentPlan(job, shown, forecasts, meaning, predicted.errors(earlier[: timings.LAST]))


def beside(job: Job, provider: Provider, earlier: Sequence[History], own: History | None) -> tuple[Beside, ...]:
    """The cheapest offer to the end of each way to train a job, the cheapest first: what it asks for among them.

    Raises BadInput for a model whose sizes cannot be predicted.
    """
    found, needed = list[Beside](), estimate.resident_bytes(job)
    for way in layouts.ways(job):
        offers = [one for one in on_offer(way, provider, own) if layouts.fits(way, needed, one.gpu_ram_mb)]
        known = {gpu: timings.known(job, way, own, earlier, gpu) for gpu in {one.gpu_name for one in offers}}
        priced = [Beside(way, one, forecast(way, one, known[one.gpu_name])) for one in offers]
        found += sorted(priced, key=lambda one: one.forecast.usd)[:1]
    return tuple(sorted(found, key=lambda one: one.forecast.usd))


def fitting(job: Job, provider: Provider, own: History | None) -> tuple[Offer, ...]:
    """The offers that fit the job's machine, as ``on_offer``. Raises GateHeld when there is none."""
    offers = on_offer(job, provider, own)
    if not offers:
        machine = job.machine
        if not job.is_billed:
            raise GateHeld(
                f"your machine has no {machine.gpus}x {machine.gpu} with {machine.disk_gb:g} GB of free disk",
                remedy='Change [machine] in the job file (gpu = "CPU" rehearses without one), or make room there.',
            )
        raise GateHeld(
            f"no offer has {machine.gpus}x {machine.gpu} for at most ${machine.max_usd_per_hour:.2f}/h",
            remedy="Wait, or change [machine] in the job file, and run the same command again.",
        )
    return offers


def on_offer(job: Job, provider: Provider, own: History | None) -> tuple[Offer, ...]:
    """The offers that fit the job's machine now, the cheapest first; where an instance of it died comes last."""
    machine = job.machine
    query = OfferQuery(
        gpu_names=(machine.gpu,),
        num_gpus=machine.gpus,
        disk_gb=machine.disk_gb,
        max_usd_per_hour=machine.max_usd_per_hour,
        min_reliability=machine.min_reliability,
        min_cuda=machine.min_cuda,
        min_duration_s=estimate.timeline(job).total,
        min_inet_down_mbps=machine.min_inet_down_mbps,
        direct_port=machine.direct_port,
    )
    offers = [one for one in provider.search(query) if _is_sane(one, job)]
    died_on = own.lost.machine_id if own is not None and own.lost is not None else None
    return tuple(sorted(offers, key=lambda offer: offer.machine_id == died_on))


def _is_sane(offer: Offer, job: Job) -> bool:
    """True for an offer at a price that somebody may really ask: no budget rests on any other."""
    if not job.is_billed:
        return True
    machine, traffic = job.machine, (offer.usd_per_gb_up, offer.usd_per_gb_down)
    of_a_gpu = per_gpu(offer.usd_per_hour, offer.num_gpus)
    return of_a_gpu >= _LEAST_USD_PER_GPU_HOUR and all(0 <= price <= machine.max_usd_per_gb for price in traffic)


def standing(history: History, now: float) -> PlanAgreed | None:
    """The agreement that holds: none that was given more than an hour from now, by the log's own time of it."""
    at = history.agreed_at
    return history.agreed if at is not None and abs(now - at) <= _HOLDS_S else None


def covers(agreed: PlanAgreed | None, offer: Offer) -> bool:
    """True for an offer that the plan showed: the same machine and GPUs, at no more than the prices there."""
    now = dataclasses.asdict(offer)
    return agreed is not None and any(
        shown.get("id") == offer.id
        and all(shown.get(name) == now[name] for name in _SAME)
        and all(_no_dearer(now[name], shown.get(name, -1.0)) for name in _BOUND)
        for shown in agreed.offers
    )


def _no_dearer(now: float | None, shown: float | None) -> bool:
    """True for a price that is no higher than it was shown; one that is not told is like no other."""
    return now is shown if now is None or shown is None else now <= shown


def _take(context: RunnerContext, offer: Offer, reporter: ProgressReporter) -> bool:
    # Whatever led here: no instance without a plan that shows it.
    agreed = standing(context.history, context.clock.now())
    if agreed is None or not covers(agreed, offer):
        raise Refused(f"offer {offer.id} at ${offer.usd_per_hour:.2f}/h is in no plan that was agreed to")
    wanted = label(context.job.name, new_nonce())
    owner = context.provider().account().user_id  # asked now: nothing may stand between the create and its record
    intended = RentIntended(wanted, dataclasses.asdict(offer), owner)
    context.record(intended)
    try:  # behind the intent, so that of two jobs that ask at once each counts the other
        require_affordable(context, offer.usd_per_hour, agreed.usd)
    except HarnessError as error:
        context.record(RentFailed(wanted, f"not asked for: {printable(str(error), 500)}"))
        raise
    machine = context.job.machine
    request = CreateRequest(
        image=machine.image,
        disk_gb=machine.disk_gb,
        label=wanted,
        public_key=context.public_key,
        directory=context.job.package.remote_dir,
    )
    try:
        context.require_lease()
        instance_id = context.provider().create(offer.id, request)
    except OfferGone as error:
        context.record(RentFailed(wanted, str(error)))
        return False
    except BadInput as error:
        context.record(RentFailed(wanted, str(error)))
        raise
    except AmbiguousCreate:
        reporter.note("the reply to the rent was lost: looking for the instance by its label")
        find_rented(context, reporter)
        return context.history.rental is not None
    record_rented(context, intended, instance_id)
    at = f"at ${offer.usd_per_hour:.2f}/h" if context.job.is_billed else f"of {offer.place}"
    did = "rented" if context.job.is_billed else "claimed"
    reporter.note(f"{did} {offer.num_gpus}x {offer.gpu_name} {at}: instance {instance_id}")
    return True
