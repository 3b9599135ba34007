"""Last words of a command about its job: the verdict, the file, the cost, since when the instance is gone. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from harness.core.money import OWN, as_paid
from harness.core.text import human_bytes
from harness.report import numbers
from harness.report.model import JobStanding, Report


def lines(report: Report, *, failed: bool) -> Iterator[str]:
    """The lines, one a fact; after a command that ``failed`` the error says how the job stands."""
    if not failed or report.standing is JobStanding.LOST:
        yield f"job {report.job}: {report.standing.upper()}. {report.headline}"
    artifact, instance, money = report.artifact, report.instance, report.money
    if artifact is not None and artifact.verified and artifact.local_size is not None:
        yield f"file: {artifact.local_path}"
        yield f"size: {human_bytes(artifact.local_size)} ({artifact.local_size} bytes)"
        yield f"SHA-256: {artifact.local_sha256}, the same on the box and here"
    if instance is not None:
        billed = "" if money.billed_usd is None else f"; the provider has billed ${money.billed_usd:.2f}"
        cost = f"cost: ${money.usd:.2f} of a budget of ${money.budget_usd:.2f}{billed}"
        yield as_paid(cost, embedded=instance.embedded) if not instance.own else f"cost: {OWN}"
        if instance.gone_at is not None:
            gone = "your machine is given back" if instance.own else "gone"
            yield f"instance {instance.id}: {gone} since {numbers.moment(instance.gone_at)}, as is proven"
