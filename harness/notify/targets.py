"""Targets of notifications: a file that gets a line each, or any service that Apprise knows by its URL.

A URL is a secret: nothing that is said of a target shows more of it than its scheme. Sending raises nothing and ends
in time, whatever a target does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from harness.core.clock import SystemClock
from harness.core.errors import BadInput, MissingExtra
from harness.core.side_by_side import side_by_side
from harness.core.text import printable

WAIT_S = 10.0
"""Seconds after which a target that has not answered is given up: a job waits no longer for it."""
_FILE = "file"
_BODY_LIMIT = 1500
"""Characters of a notice's text: services cut or refuse what is much longer."""


class Occasion(StrEnum):
    """Reason for a notice."""

    HELD = "held"
    CAP_NEAR = "cap near"
    READY = "ready to release"
    CLOSED = "closed"
    ENDED = "ended"
    """The command that drove the job was ended by the system, and the job goes on without it."""
    BILLS = "still billing"
    BLIND = "cannot look"
    """``harness watch`` could not look at everything, several times in a row: something may bill unseen."""
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person who is elsewhere is to know: a line, and a few sentences."""

    occasion: Occasion
    title: str
    body: str


def require_usable(urls: Sequence[str]) -> None:
    """Raise BadInput for a target that is no URL, MissingExtra for one that needs packages that are not here."""
    for number, url in enumerate(urls, start=1):
        if not _scheme(url):
            raise BadInput(
                f"notification target {number} is no URL",
                remedy="HARNESS_NOTIFY and [notify] urls hold file:///PATH, or URLs of Apprise such as ntfy://TOPIC.",
            )
        if _scheme(url) != _FILE and find_spec("apprise") is None:
            raise MissingExtra(f"notifying {_scheme(url)}://", "notify")


def send(notice: Notice, urls: Sequence[str]) -> tuple[str, ...]:
    """Tell every target, all at once and for ten seconds at most; of those that were not told, why."""
    each = [partial(_problem, notice, url) for url in urls]
    problems = side_by_side(each, WAIT_S, f"no answer within {WAIT_S:.0f} s")
    return tuple(
        f'the notification "{notice.occasion}" did not reach target {number} ({_scheme(url) or "no URL"}): {problem}'
        for number, (url, problem) in enumerate(zip(urls, problems, strict=True), start=1)
        if problem
    )


def _problem(notice: Notice, url: str) -> str:
    """Reason why a target was not told; empty when it was."""
    try:
        return _append(notice, url) if _scheme(url) == _FILE else _by_apprise(notice, url)
    except OSError as error:
        return error.strerror or type(error).__name__
    except Exception as error:  # noqa: BLE001 - its words may hold the URL, and a job goes on whatever it is
        return type(error).__name__


def _append(notice: Notice, url: str) -> str:
    """One line of JSON at the end of a file."""
    path = Path(url2pathname(urlsplit(url).path)).expanduser()
    line = {"at": round(SystemClock().now()), "occasion": notice.occasion, "title": notice.title, "body": notice.body}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return ""


def _by_apprise(notice: Notice, url: str) -> str:
    """Problem of one service; empty when it took the notice."""
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its log lines may hold the URL
    import apprise  # noqa: PLC0415 - an extra, and slow

    service = apprise.Apprise()
    if not service.add(url):
        return "Apprise does not understand the URL"
    body = printable(notice.body, _BODY_LIMIT)
    return "" if service.notify(title=printable(notice.title, 200), body=body) else "the service did not take it"


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""
