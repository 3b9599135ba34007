"""Before anything begins to bill by the hour: all jobs and accounts of this operator together are within his limits."""

from __future__ import annotations

from harness.context import RunnerContext
from harness.core.errors import Refused
from harness.ledger import ownership
from harness.ledger.account import AccountLook, Wanted, spending, with_one_more
from harness.ledger.limits import FILE
from harness.ledger.two_clocks import TwoClocks
from harness.providers import registry


def require_affordable(context: RunnerContext, usd_per_hour: float, usd: float) -> None:
    """Raise Refused when something at that price, which comes to ``usd`` at its end, would exceed a stated limit.

    Raises ProviderUnavailable when the account cannot be looked at, LogDamaged when a job's cost is not known.
    """
    limits = context.limits()
    if limits is None or not context.job.is_billed:
        return
    provider, table = context.provider(), context.job.provider
    bills = () if limits.per_day is None and limits.per_month is None else provider.bills()
    looks: dict[object, AccountLook] = {
        ownership.place(table): AccountLook(provider.instances().instances, provider.volumes(), bills)
    }
    embedded = registry.is_embedded(table.kind)  # what nobody pays is held against what nobody pays
    jobs = [one for one in context.jobs() if registry.is_embedded(one.job.provider.kind) is embedded]
    now = TwoClocks.told(provider.account().at, context.clock.now())
    others = [one for one in jobs if one.job.name != context.job.name]
    exceeded = with_one_more(
        spending(jobs, looks, now, doubting=True), others, Wanted(usd_per_hour, usd), limits, now, looks=looks
    )
    if exceeded:
        raise Refused(
            f"the limits of all jobs together do not allow it ({FILE}): {'; '.join(exceeded)}",
            remedy="harness orphans shows what bills, harness status the jobs: end what need not be, or wait; or raise "
            f"the limit in {FILE} in the harness's home. Then: harness run {context.job.name}.",
        )
