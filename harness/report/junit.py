"""The report as JUnit XML: a suite a stage, a case a check; FAIL is a failure, UNKNOWN an error. Pure."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from harness.core.text import printable
from harness.core.verdict import Verdict
from harness.gates.evidence import CheckResult, Sight
from harness.release.statement import rfc3339
from harness.report.model import Report, StageReport

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped (https://www.w3.org/TR/xml/#charsets)."""


def render(report: Report) -> bytes:
    """The XML document, UTF-8."""
    root = ET.Element("testsuites", {"name": f"gold standard: {_text(report.job)}"})
    for stage in report.stages:
        root.append(_suite(stage))
    counts = [(name, sum(int(suite.get(name, "0")) for suite in root)) for name in _COUNTS]
    root.attrib.update({name: str(count) for name, count in counts})
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


_COUNTS = ("tests", "failures", "errors", "skipped")


def _suite(stage: StageReport) -> ET.Element:
    suite = ET.Element("testsuite", {"name": stage.stage.value, "time": f"{stage.seconds or 0.0:.3f}"})
    if stage.entered_at is not None:
        suite.set("timestamp", rfc3339(stage.entered_at))
    for check in stage.checks:
        suite.append(_case(stage, check))
    for name in stage.silent:
        case = _named(stage, name)
        if stage.verdict is None:
            ET.SubElement(case, "skipped", {"message": "not judged yet"})
        else:
            ET.SubElement(case, "error", {"message": "it did not report"})
        suite.append(case)
    for problem in stage.problems:
        case = _named(stage, "gate")
        ET.SubElement(case, "error", {"message": _text(problem)})
        suite.append(case)
    counts = {"tests": len(suite)} | {
        name: len(suite.findall(f"testcase/{tag}"))
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
    }
    suite.attrib.update({name: str(count) for name, count in counts.items()})
    return suite


def _case(stage: StageReport, check: CheckResult) -> ET.Element:
    case = _named(stage, check.id)
    case.set("time", f"{check.seconds:.3f}")
    if check.verdict is not Verdict.PASS:
        tag = "failure" if check.verdict is Verdict.FAIL else "error"
        message = check.message.splitlines()[0] if check.message.strip() else check.claim
        ET.SubElement(case, tag, {"message": _text(message), "type": check.verdict.name}).text = _text(_in_words(check))
    return case


def _named(stage: StageReport, name: str) -> ET.Element:
    return ET.Element("testcase", {"classname": f"checks.{stage.stage.value}", "name": _text(name)})


def _in_words(check: CheckResult) -> str:
    lines = [check.claim, *_sights("saw", check.saw), *_sights("expected", check.expected)]
    return "\n".join([*lines, check.message, f"next: {check.remedy}"])


def _sights(label: str, sights: tuple[Sight, ...]) -> list[str]:
    return [f"{label}: {sight.name} = {sight.value}" for sight in sights]


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", printable(text, 8000))
