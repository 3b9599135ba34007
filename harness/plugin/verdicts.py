"""From a pytest outcome to a verdict: only a check that looked and held is a PASS."""

from __future__ import annotations

import dataclasses
import inspect
import json
import textwrap
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import pytest

from harness.core.ids import CheckId
from harness.core.observed import CouldNotLook
from harness.core.text import printable
from harness.core.verdict import Verdict
from harness.gates.evidence import COULD_NOT_LOOK, CheckResult, Sight
from harness.gates.facts_file import UNTOLD, FactsFile
from harness.job.model import Job
from harness.plugin.looking import Evidence
from harness.plugin.session import Judging, check_id

REPORT_ATTRIBUTE = "harness_result"
EVIDENCE = pytest.StashKey[Evidence]()
_MESSAGE_LIMIT = 4000


@dataclass(slots=True, eq=False)  # pytest keeps plugins in sets
class Speaking:
    """Turns each check's report into a verdict with evidence, and says it in words."""

    judging: Judging

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Call a check; one that returns something, or returns before it ran, asserts nothing."""
        if self.judging.stage_of(pyfuncitem) is None:
            return None
        function = pyfuncitem.obj
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError("a check is a plain function: neither async nor a generator")
        names = [name for name in inspect.signature(function).parameters if name in pyfuncitem.funcargs]
        returned = function(**{name: pyfuncitem.funcargs[name] for name in names})
        if returned is not None:
            raise TypeError(f"the check returns {str(returned)[:80]!r} where it should assert")
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Judge the call, or a setup or teardown that kept it from being judged."""
        report = yield
        stage = self.judging.stage_of(item)
        if stage is None or (report.when != "call" and report.passed):
            return report
        evidence = item.stash.get(EVIDENCE, Evidence())
        verdict, message = _judge(report, call, evidence)
        result = CheckResult(
            id=check_id(item),
            stage=stage,
            claim=claim_of(getattr(item, "function", None)) or item.name,
            verdict=verdict,
            saw=tuple(evidence.sights),
            expected=tuple(evidence.expectations),
            message=printable(message, _MESSAGE_LIMIT),
            remedy=_remedy(item, verdict, self.judging.facts[stage]) if verdict is not Verdict.PASS else "",
            seconds=round(report.duration, 6),
        )
        setattr(report, REPORT_ATTRIBUTE, _plain(result))
        if verdict is not Verdict.PASS:
            report.outcome = "failed"
            report.longrepr = in_words(result)
            # An expected failure is still not a pass.
            vars(report).pop("wasxfail", None)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> tuple[str, str, str | tuple[str, dict[str, bool]]] | None:
        """PASS, FAIL or UNKNOWN in place of pytest's words."""
        result = result_of(report)
        if result is None:
            return None
        if result.verdict is Verdict.PASS:
            return "passed", ".", "PASS"
        if result.verdict is Verdict.UNKNOWN:
            return "failed", "U", ("UNKNOWN", {"yellow": True})
        return "failed", "F", "FAIL"


def result_of(report: object) -> CheckResult | None:
    """The result that a report carries, also when it came from another process."""
    data: dict[str, Any] | None = getattr(report, REPORT_ATTRIBUTE, None)
    if data is None:
        return None
    sights = {name: tuple(Sight(**sight) for sight in data[name]) for name in ("saw", "expected")}
    return CheckResult(**{**data, **sights, "id": CheckId(data["id"]), "verdict": Verdict(data["verdict"])})


def _plain(result: CheckResult) -> Any:
    """Plain JSON values: execnet, by which xdist's workers report, sends no enum and no lone surrogate."""
    return json.loads(json.dumps(dataclasses.asdict(result), ensure_ascii=False).encode("utf-8", "replace"))


def in_words(result: CheckResult) -> str:
    """A result for a tired person: the claim, what was seen, what was expected, the next command."""
    lines = [f"{result.verdict.name} {result.id}: {result.claim}"]
    lines += [f"  saw       {_in_line(sight.name)} = {_in_line(sight.value)}" for sight in result.saw]
    lines += [f"  expected  {_in_line(sight.name)} = {_in_line(sight.value)}" for sight in result.expected]
    if result.message:
        lines.append("  because   " + result.message.replace("\n", "\n          | "))
    if result.remedy:
        lines.append(f"  next      {result.remedy}")
    return "\n".join(lines)


def _in_line(text: str) -> str:
    """One line: what a box says at the beginning of a line would be a command to some readers of this output."""
    return text.replace("\n", "\\n")


def _judge(report: pytest.TestReport, call: pytest.CallInfo[None], evidence: Evidence) -> tuple[Verdict, str]:
    not_run = _not_run(report, call, evidence)
    if not_run is not None:
        return Verdict.UNKNOWN, not_run
    if call.excinfo is None:
        return Verdict.PASS, ""
    return of_error(call.excinfo, called=report.when == "call")


def of_error(raised: pytest.ExceptionInfo[BaseException], *, called: bool = True) -> tuple[Verdict, str]:
    """Verdict and message for what a check raised; ``called`` is False for a setup or teardown, which asserts nothing.

    Only an assertion fails; anything else says that the check did not judge.
    """
    error = raised.value
    if called and isinstance(error, AssertionError | pytest.fail.Exception):
        return Verdict.FAIL, _own_words(raised)
    if isinstance(error, CouldNotLook):
        return Verdict.UNKNOWN, f"{COULD_NOT_LOOK}{error}"
    where = raised.traceback[-1]
    return Verdict.UNKNOWN, f"could not judge: {type(error).__name__}: {error} ({where.path}:{where.lineno + 1})"


def _own_words(raised: pytest.ExceptionInfo[BaseException]) -> str:
    """A check's message; an assertion without one is its own.

    The same whether pytest rewrote the assertion or not: a rewritten one adds the expression with its values, and
    indents all lines of the message but the first.
    """
    first, _, others = str(raised.value).partition("\nassert ")[0].partition("\n")
    if first and not first.startswith("assert "):
        return f"{first}\n{textwrap.dedent(others)}" if others else first
    where = raised.traceback.filter(raised)[-1]
    if where.frame.code.fullsource is None:
        return f"an assertion without words failed ({where.path}:{where.lineno + 1})"
    return textwrap.dedent(str(where.statement)).strip()


def _not_run(report: pytest.TestReport, call: pytest.CallInfo[None], evidence: Evidence) -> str | None:
    """Reason why an outcome says nothing about the claim; None when the check ran and looked."""
    if hasattr(report, "wasxfail"):
        return f"marked xfail: {report.wasxfail or 'no reason given'}"
    if report.skipped:
        return f"skipped: {call.excinfo.value if call.excinfo else 'no reason given'}"
    if call.excinfo is None and report.failed:
        return str(report.longrepr)  # a strict xfail that passed fails without an exception
    if call.excinfo is None and not evidence.sights:
        return "the check looked at nothing: it must call evidence.saw or evidence.note"
    return None


def claim_of(check: Callable[..., object] | None) -> str:
    """A check's claim: the first line of its docstring; empty when it has none."""
    doc = inspect.getdoc(check) if check else None
    return doc.splitlines()[0].rstrip(".") if doc else ""


def _remedy(item: pytest.Item, verdict: Verdict, facts: FactsFile) -> str:
    if UNTOLD in facts.facts:
        return "nobody can look at it any more: put the file that its gate was judged by back from a copy"
    mark = item.get_closest_marker("remedy")
    return next_step(facts.job, mark, verdict, gone=facts.facts.get("gone") is True)


def next_step(job: Job, mark: pytest.Mark | None, verdict: Verdict, *, gone: bool = False) -> str:
    """Remedy of a check's ``remedy`` mark, true in this state: the instance ``gone``, or nobody able to look."""
    told: dict[str, str] = {"failed": mark.args[0], **mark.kwargs} if mark and mark.args else {}
    states = ("gone",) * gone + ("unknown",) * (verdict is Verdict.UNKNOWN) + ("failed",)
    usual = "mend what is named above, then: harness run {job}"
    remedy = next((told[state] for state in states if state in told), usual)
    return job.addressed(remedy.replace("{job}", "JOB"))
