"""The rental goes on as it was agreed to for as long as the job needs it."""

from __future__ import annotations

import pytest

from harness.facts.training import TrainingFacts, steps_left_s
from harness.job.model import Job
from harness.plugin.looking import Evidence

_ROUNDED = 1.01
"""Share of a price up to which another one is the same: bills are rounded."""


@pytest.mark.remedy(
    "look at the instance in the provider's console: what is on its disk ends with the rental; the checkpoints that "
    "are mirrored here go on elsewhere. To accept a price, raise max_usd_per_hour, then: harness run {job}"
)
def check_instance_stays_on_its_terms(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """While it trains, the rental lasts to the job's planned end, and no price above the cap is billed or announced."""
    session = evidence.saw("session", training.session)
    if not session.alive:
        return  # whenever the rental ends, bringing the model home at once is all that is left to do
    terms = evidence.saw("terms", training.terms)
    log, limits = evidence.saw("log", training.log), job.limits
    cap = evidence.wants("USD/h, at most", max(job.machine.max_usd_per_hour, terms.agreed_usd_per_hour)) * _ROUNDED
    assert terms.usd_per_hour <= cap, f"${terms.usd_per_hour:.2f}/h is billed"
    to_come = steps_left_s(job, log) + limits.export_s + (limits.evaluate_s if job.package.evaluate else 0)
    needed = evidence.wants("seconds that it lasts, for the rest and two downloads", to_come + 2 * limits.download_s)
    for price in terms.pending:
        since = price.since if price.since is not None else terms.ends_at
        soon = since is None or since - terms.now <= needed
        assert not soon or price.usd_per_hour <= cap, f"the host asks ${price.usd_per_hour:.2f}/h before the job's end"
    if terms.ends_at is not None:
        left = evidence.note("seconds to the rental's end", terms.ends_at - terms.now)
        assert left > needed, f"the rental ends in {left:.0f} s, the job needs {needed:.0f} s"
