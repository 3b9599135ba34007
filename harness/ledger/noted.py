"""Events that nothing is decided by: what a machine brought, and which part of the work it was seen at."""

from __future__ import annotations

from collections.abc import Mapping

from harness.ledger.kinds import JobEvent, stored


@stored("image_had")
class ImageHad(JobEvent):
    """The requirements that the image met before anything was installed, by version; the others as they are written."""

    versions: Mapping[str, str]
    missing: tuple[str, ...]


@stored("base_fetched")
class BaseFetched(JobEvent):
    """The package's command that fetches its base model ended with an exit status; None when nobody knows it."""

    status: int | None


@stored("at_work")
class AtWork(JobEvent):
    """The training was seen to be at its next part: a trainer by its name, or ``export``."""

    part: str
