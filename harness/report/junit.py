"""Verdicts as JUnit XML: a suite a stage, a case a check; FAIL is a failure, UNKNOWN an error. Pure.

The report and a run of pytest write the same cases for the same verdicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree as ET

from harness.core.text import printable, rfc3339
from harness.core.verdict import Verdict
from harness.gates.evidence import CheckResult, Sight
from harness.gates.facts_file import recorded
from harness.report.model import Report

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped (https://www.w3.org/TR/xml/#charsets)."""


def render(report: Report) -> bytes:
    """The XML document of a report, UTF-8."""
    return document(
        report.job,
        (
            suite(
                stage.stage.value,
                stage.checks,
                stage.silent,
                stage.problems,
                judged=stage.verdict is not None,
                seconds=stage.seconds or 0.0,
                at=stage.entered_at,
                facts=""
                if stage.judged_at is None
                else recorded(stage.stage, "judged", stage.judged_at, report.written_at),
            )
            for stage in report.stages
        ),
    )


def document(job: str, suites: Iterable[ET.Element]) -> bytes:
    """The XML document of a job's suites, UTF-8."""
    root = ET.Element("testsuites", {"name": f"gold standard: {_text(job)}"})
    root.extend(suites)
    counts = [(name, sum(int(suite.get(name, "0")) for suite in root)) for name in _COUNTS]
    root.attrib.update({name: str(count) for name, count in counts})
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


_COUNTS = ("tests", "failures", "errors", "skipped")


def suite(
    stage: str,
    checks: Iterable[CheckResult],
    silent: Iterable[str],
    problems: Iterable[str],
    *,
    judged: bool,
    seconds: float,
    at: float | None,
    facts: str = "",
) -> ET.Element:
    """A stage's suite: its checks, those that are ``silent``, and what kept the gate from being judged.

    ``at``: seconds since the epoch. ``facts``: the age of what was judged, when that was no look at the world.
    """
    made = ET.Element("testsuite", {"name": _text(stage), "time": f"{seconds:.3f}"})
    if at is not None:
        made.set("timestamp", rfc3339(at))
    made.extend(_case(stage, check) for check in checks)
    for name in silent:
        case = ET.SubElement(made, "testcase", _named(stage, name))
        tag, message = ("error", "it did not report") if judged else ("skipped", "not judged yet")
        ET.SubElement(case, tag, {"message": message})
    for problem in problems:
        ET.SubElement(ET.SubElement(made, "testcase", _named(stage, "gate")), "error", {"message": _text(problem)})
    for case in made if facts else ():
        ET.SubElement(ET.SubElement(case, "properties"), "property", {"name": "facts", "value": _text(facts)})
    counts = {"tests": len(made)} | {
        name: len(made.findall(f"testcase/{tag}"))
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
    }
    made.attrib.update({name: str(count) for name, count in counts.items()})
    return made


def _case(stage: str, check: CheckResult) -> ET.Element:
    case = ET.Element("testcase", _named(stage, check.id))
    case.set("time", f"{check.seconds:.3f}")
    if check.verdict is not Verdict.PASS:
        tag = "failure" if check.verdict is Verdict.FAIL else "error"
        message = check.message.splitlines()[0] if check.message.strip() else check.claim
        ET.SubElement(case, tag, {"message": _text(message), "type": check.verdict.name}).text = _text(_in_words(check))
    return case


def _named(stage: str, name: str) -> dict[str, str]:
    return {"classname": f"checks.{_text(stage)}", "name": _text(name)}


def _in_words(check: CheckResult) -> str:
    lines = [check.claim, *_sights("saw", check.saw), *_sights("expected", check.expected)]
    return "\n".join([*lines, check.message, f"next: {check.remedy}"])


def _sights(label: str, sights: tuple[Sight, ...]) -> list[str]:
    return [f"{label}: {sight.name} = {sight.value}" for sight in sights]


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", printable(text, 8000))
