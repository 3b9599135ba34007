"""``limits.toml`` in the harness's home: what all jobs of this operator, and their accounts, may cost together."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from harness.core.errors import BadInput
from harness.job.load import load_table
from harness.job.table import Table

FILE = "limits.toml"
Usd = Annotated[float, Field(gt=0, strict=True)]


class Stops(StrEnum):
    """Instances that may be stopped when a limit is exceeded; what may not be is counted, and told."""

    NONE = "none"
    OURS = "ours"
    """Of a job in this ledger."""
    LABELLED = "labelled"
    """With a label of this tool, too: another machine's jobs, or those of a ledger that is lost."""
    ALL = "all"
    """Whatever the account has rented."""


class AccountLimits(Table):
    """Limits in USD on everything that bills, whosever it is; None for what is not limited.

    A day and a month are those of the calendar, in UTC.
    """

    per_hour: Usd | None = None
    per_day: Usd | None = None
    per_month: Usd | None = None
    stop: Stops = Stops.OURS
    providers: tuple[str, ...] = ()
    """Kinds of provider whose account ``harness watch`` looks at although no job of this ledger has rented there."""


def load(home: Path) -> AccountLimits | None:
    """The limits that are stated; None where there is no such file. Raises BadInput for one that does not read."""
    path = home / FILE
    try:
        path.lstat()  # a link to a place that is not there just now is a file that does not read
        return AccountLimits.model_validate(load_table(path, "limits"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    except (OSError, BadInput) as error:
        told = str(error)
    raise BadInput(
        f"{path} does not read: {told}",
        remedy="It holds per_hour, per_day and per_month in USD, stop = "
        f"{' or '.join(repr(one.value) for one in Stops)}, and providers, a list of kinds; each may be left out. "
        "Without the file nothing is limited but each job.",
    )
