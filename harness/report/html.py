"""GOLD_STANDARD.html: the whole report as one page that needs nothing else, and runs nothing. Pure.

No script, no request: the page's own policy forbids both, and allows the one style sheet in it by its digest.
A page that ``harness serve`` shows has a revision, and one script, allowed by its digest, which asks that server alone.
Every word is escaped by the template engine; plots are made of numbers here and trusted as they are.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from harness import __version__
from harness.core.text import rfc3339
from harness.core.verdict import Verdict
from harness.report import bars, charts, numbers, standing
from harness.report.bars import Bar, Whisker
from harness.report.model import JobStanding, Report

STYLE: Final = "gold_standard.css.jinja"
SCRIPT: Final = "live.js.jinja"

if TYPE_CHECKING:
    from jinja2 import Environment


def render(report: Report, revision: str = "") -> str:
    """The whole page; with a ``revision`` the one that follows its job."""
    current = standing.current(report.stages)
    return page(
        "gold_standard.html.jinja",
        revision,
        report=report,
        current=current if current is not None and (current.shut or current.problems) else None,
        mark=_MARKS[report.standing],
        plots=list(_plots(report)),
        evaluated=list(_evaluated(report)),
        dollars=_dollars(report),
        download=_download(report),
        spans=_spans(report),
        file=re.split(r"[\\/]", report.artifact.local_path or report.artifact.remote_path)[-1]
        if report.artifact
        else "",
        days=[(day, list(moments)) for day, moments in groupby(report.timeline, key=lambda one: numbers.day(one.at))],
        rules=[(rule, rule.verdict) for rule in report.rules],
    )


def page(template: str, revision: str, **told: Any) -> str:
    """A page of this room's templates, with its style sheet, its policy and, when it has a revision, its script."""
    style, script = _text(STYLE), _text(SCRIPT) if revision else ""
    return (
        _environment()
        .get_template(template)
        .render(
            style=_as_is(style),
            script=_as_is(script),
            policy=policy(revision),
            revision=revision,
            version=__version__,
            **told,
        )
    )


def policy(revision: str = "") -> str:
    """Content-Security-Policy of a page: nothing is loaded; what is in it is allowed by its digest."""
    follows = f"; script-src '{_policy_digest(_text(SCRIPT))}'; connect-src 'self'" if revision else ""
    style = f"default-src 'none'; style-src '{_policy_digest(_text(STYLE))}'; img-src data:"
    return f"{style}; base-uri 'none'; form-action 'none'{follows}"


@cache
def _text(name: str) -> str:
    return _environment().get_template(name).render()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only a page needs it

    environment = Environment(
        loader=PackageLoader("harness.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        {name: getattr(numbers, name) for name in ("usd", "per_hour", "size", "exactly", "rate", "duration")}
        | {name: getattr(numbers, name) for name in ("clock", "day", "moment", "share")}
        | {"posix": shlex.quote, "powershell": _powershell, "rfc3339": _machine_time}
    )
    environment.tests["passed"] = lambda verdict: verdict is Verdict.PASS
    return environment


def _powershell(word: str) -> str:
    """A word that PowerShell takes as it stands."""
    return "'" + word.replace("'", "''") + "'"


def _policy_digest(text: str) -> str:
    """Digest of an inline style sheet, as a Content-Security-Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _machine_time(at: float) -> str:
    return rfc3339(numbers.in_calendar(at))


_MARKS: Final[Mapping[JobStanding, tuple[str, str]]] = {
    JobStanding.CLOSED: ("closed", "\N{CHECK MARK}"),
    JobStanding.HELD: ("held", "\N{DOUBLE VERTICAL LINE}"),
    JobStanding.UNDER_WAY: ("going", "\N{RIGHTWARDS ARROW}"),
    JobStanding.LOST: ("lost", "\N{BALLOT X}"),
}


def _as_is(text: str) -> Any:
    from markupsafe import Markup  # noqa: PLC0415 - comes with the template engine

    return Markup(text)  # noqa: S704 - this room's own, or made of numbers and escaped names by charts


def _plots(report: Report) -> Iterator[dict[str, Any]]:
    for index, curve in enumerate(report.training.curves if report.training else ()):
        drawn = bool(curve.lines)
        yield {
            "curve": curve,
            "svg": _as_is(charts.lines(curve, f"plot{index}")) if drawn else None,
            "told": charts.told(curve) if drawn else "",
            "rows": charts.rows(curve) if drawn else [],
        }


def _evaluated(report: Report) -> Iterator[dict[str, Any]]:
    for index, (kind, found) in enumerate(report.evaluation.decisions.items() if report.evaluation else ()):
        told = [("trained", found.trained), ("base model", found.base), ("majority class", found.majority)]
        dots = [Whisker(name, one.accuracy, one.low, one.high) for name, one in told]
        plot = bars.whiskers(dots, f"decided{index}", "Decisions that were right, with 95 % intervals")
        yield {"kind": kind, "found": found, "rows": told, "svg": _as_is(plot)}


def _dollars(report: Report) -> Any:
    """Cost of each stage, the idle part marked; None before anything was paid."""
    paid = [
        Bar(one.stage.value, one.usd, one.idle_usd or 0.0, numbers.usd(one.usd)) for one in report.stages if one.usd
    ]
    return _as_is(bars.bars(paid, "dollars", "Dollars by stage")) if paid else None


def _download(report: Report) -> Any:
    """The rate at which the model came beside what the offer states of the line; None while it is not known."""
    money = report.money
    told = [("as it came", money.bytes_per_s), ("offered line", money.line_bytes_per_s)]
    given = [Bar(name, rate, 0.0, numbers.rate(rate)) for name, rate in told if rate is not None]
    return None if money.bytes_per_s is None else _as_is(bars.bars(given, "rate", "Download rate"))


def _spans(report: Report) -> Any:
    """When each stage began and how long it took; None before any began."""
    begun = [
        (stage.stage.value, stage.entered_at, stage.entered_at + (stage.seconds or 0.0))
        for stage in report.stages
        if stage.entered_at is not None
    ]
    return _as_is(bars.spans(begun, "spans", "Time of each stage")) if begun else None
