"""Verdicts for machines: JSON, JUnit, GitHub annotations, GitHub's step summary. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.core.text import one_line
from harness.core.verdict import Verdict
from harness.gates.evidence import GateResult
from harness.plugin.session import Judging

_MARKS = frozenset("\\`*_[]<>|~$&")
_SUMMARY_LIMIT = 1_000_000
"""Bytes of a step summary: GitHub shows none that is larger than 1 MiB."""


def verdicts_json(gates: Iterable[GateResult], judging: Judging) -> bytes:
    """Every gate with its checks and evidence, and the digest of the facts it judged."""
    body = [
        {
            **dataclasses.asdict(gate),
            "verdict": gate.verdict,
            "missing": gate.missing,
            "facts_sha256": judging.digests[gate.stage],
            "job": judging.facts[gate.stage].job.name,
            "facts_seen_at": judging.facts[gate.stage].taken_at,
            "facts_recorded": judging.recorded.get(gate.stage),
        }
        for gate in gates
    ]
    return json.dumps({"format": 1, "gates": body}, indent=1).encode()


def junit_xml(gates: Iterable[GateResult], judging: Judging) -> bytes:
    """The cases that the report would write for these gates, and with them the age of facts that were recorded."""
    from harness.report import junit  # noqa: PLC0415 - a gate that writes none starts without the report

    names = sorted({facts.job.name for facts in judging.facts.values()})
    return junit.document(
        ", ".join(names),
        (
            junit.suite(
                gate.stage,
                gate.results,
                gate.missing,
                gate.problems,
                judged=True,
                seconds=gate.seconds,
                at=judging.facts[gate.stage].taken_at,
                facts=judging.recorded.get(gate.stage, ""),
            )
            for gate in gates
        ),
    )


def workflow_commands(gates: Iterable[GateResult], file: Path | None = None) -> Iterator[str]:
    """GitHub's workflow commands, one for each check that did not pass, about a file of the repository."""
    told = {} if file is None else {"file": file.as_posix()}
    for gate in gates:
        for title, verdict, why in _shut(gate):
            kind = "error" if verdict is Verdict.FAIL else "warning"
            properties = ",".join(f"{name}={_property(text)}" for name, text in {**told, "title": title}.items())
            yield f"::{kind} {properties}::{_escaped(why)}"


def summary_markdown(gates: Iterable[GateResult], judging: Judging) -> str:
    """A table a gate, small enough for a step summary."""
    lines = []
    for gate in gates:
        word = "open" if gate.verdict is Verdict.PASS else "held"
        lines.append(f"### {judging.facts[gate.stage].job.name}: gate {gate.stage} {word}\n")
        lines += [f"{_cell(judging.recorded[gate.stage])}\n"] if gate.stage in judging.recorded else []
        shut = list(_shut(gate))
        if shut:
            lines += ["| not passed | verdict | why |", "|---|---|---|"]
            lines += [f"| {_cell(title)} | {verdict.name} | {_cell(why)} |" for title, verdict, why in shut]
            lines.append("")
        lines += ["| check | verdict | saw |", "|---|---|---|"]
        for result in gate.results:
            saw = "; ".join(f"{sight.name} = {sight.value}" for sight in result.saw)
            lines.append(f"| {_cell(result.id)} | {result.verdict.name} | {_cell(saw)} |")
        lines.append("")
    return "\n".join(lines).encode("utf-8", "replace")[:_SUMMARY_LIMIT].decode("utf-8", "ignore")


def _shut(gate: GateResult) -> Iterator[tuple[str, Verdict, str]]:
    """All that keeps a gate shut: its name, its verdict, the reason."""
    yield from ((result.id, result.verdict, result.message) for result in gate.not_passed())
    yield from ((check, Verdict.UNKNOWN, "did not report") for check in gate.missing)
    yield from ((gate.stage, Verdict.UNKNOWN, problem) for problem in gate.problems)


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def _escaped(text: str) -> str:
    """As GitHub's own toolkit escapes what it writes (actions/toolkit, packages/core/src/command.ts)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _cell(text: str) -> str:
    """A text in a table, cut before it is escaped: no mark of Markdown, HTML or mathematics means anything in it."""
    return "".join(f"\\{one}" if one in _MARKS else one for one in one_line(text))
