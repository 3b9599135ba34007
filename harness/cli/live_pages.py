"""Pages of ``harness serve``: the list of jobs and the report of each, made anew when the event log has grown.

Nobody is asked but the log and what was recorded beside it, and nothing is written.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from harness.cli.report import report_of
from harness.cli.status import money_words
from harness.core.errors import BadInput, HarnessError
from harness.core.ids import JobName
from harness.core.ports import Clock
from harness.core.text import printable
from harness.ledger.bills import Billing
from harness.ledger.events import Closed
from harness.ledger.jobs import Ledger
from harness.report import html
from harness.wiring import open_context

LIST: Final = JobName("")
"""Stands for the page that lists all jobs."""
_EVERY_S: Final = 1.0
_REST: Final = 4.0
"""Times as long as it took to make a page is rested before it is made again."""
_MINUTE_S: Final = 60.0
"""Money and ages grow without an event: the page of a job that is not over is made anew so often."""
_WORDS: Final = 600


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it was made. ``made_at`` and ``took_s`` are monotonic seconds."""

    status: int
    text: str
    revision: str
    made_at: float
    took_s: float


@dataclass(slots=True)
class Pages:
    """The pages, and the revision of each: it is another one whenever the page would say something else."""

    ledger: Ledger
    clock: Clock
    _revisions: Mapping[JobName, str] = field(default_factory=dict)
    _looked_at: float | None = None
    _made: dict[JobName, Page] = field(default_factory=dict)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _making: threading.Lock = field(default_factory=threading.Lock)

    def revision(self, name: JobName) -> str | None:
        """Revision of a page, at most a second old; None where there is no such job. Raises StoreFailed."""
        with self._looking:
            now = self.clock.monotonic()
            if self._looked_at is None or now - self._looked_at >= _EVERY_S:
                self._revisions, self._looked_at = self._read(), now
            return self._revisions.get(name)

    def page(self, name: JobName) -> Page:
        """A page as it stands now, or as it was when it was last made, not long ago."""
        with self._making:
            began, before = self.clock.monotonic(), self._made.get(name)
            if before is not None and began - before.made_at < max(_EVERY_S, _REST * before.took_s):
                return before
            revision = None
            try:
                revision = self.revision(name)
                if before is not None and before.revision == revision:
                    return before
                status, text = 200, self._text(name, revision)
            except HarnessError as error:
                status, text = _failed(name, error)
            now = self.clock.monotonic()
            page = Page(status, text, revision if status == 200 and revision else "", now, now - began)
            if revision is not None:  # of what is no job nothing is kept
                self._made[name] = page
            return page

    def _read(self) -> Mapping[JobName, str]:
        """Revision of every page: the head of each log, and the minute where that is not the job's last."""
        minute = int(self.clock.now() // _MINUTE_S)
        found = {name: _short("damaged", minute) for name in self.ledger.lost()}
        for name, outline in self.ledger.store.outlines().items():
            over = bool(outline) and any(record.kind == Closed.kind for record in outline or ())
            found[name] = _short(outline[-1].digest if outline else "damaged", 0 if over else minute)
        return {**found, LIST: _short(*(f"{name} {one}" for name, one in sorted(found.items())))}

    def _text(self, name: JobName, revision: str | None) -> str:
        if revision is None:
            raise self.ledger.no_job(name)
        if name == LIST:
            return jobs_page(self.ledger.rows(self.clock.now()), revision)
        with open_context(name, only_looks=True) as context:
            return html.render(report_of(context, asks=False), revision)


def jobs_page(rows: list[dict[str, Any]], revision: str) -> str:
    """The list of all jobs: first those that may bill, by their price, then the others by name."""
    told = [{**row, "money_words": _money(row), **_printable(row)} for row in sorted(rows, key=_place)]
    billing = sum(row["bills"]["state"] != Billing.NOTHING for row in rows)
    return html.page("jobs.html.jinja", revision, jobs=told, billing=billing, failure=None)


def failure_page(title: str, words: str, remedy: str) -> str:
    """A page that says why there is no other."""
    told = {"title": title, "words": printable(words, _WORDS), "remedy": printable(remedy, _WORDS)}
    return html.page("jobs.html.jinja", "", jobs=[], billing=0, failure=told)


def _failed(name: JobName, error: HarnessError) -> tuple[int, str]:
    absent = isinstance(error, BadInput)
    title = f"No job {name:.64}" if absent else "This page cannot be made"
    return (404 if absent else 500), failure_page(title, str(error), error.remedy)


def _place(row: Mapping[str, Any]) -> tuple[bool, float, str]:
    """Place of a job in the list: one that bills at a price that is not known is the first."""
    bills = row["bills"]
    price = bills["usd_per_hour"]
    return bills["state"] == Billing.NOTHING, float("-inf") if price is None else -price, row["job"]


def _money(row: Mapping[str, Any]) -> str:
    money = row.get("money")
    over = row["stage"] == "closed"
    return ", ".join(money_words(*money.values(), over=over)) if money else ""


def _printable(row: Mapping[str, Any]) -> dict[str, str]:
    return {key: printable(row[key], _WORDS) for key in ("held", "unreadable", "remedy") if row.get(key)}


def _short(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]
