"""Verdicts for machines: JSON, JUnit, GitHub annotations, GitHub's step summary. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator

from harness.core.verdict import Verdict
from harness.gates.evidence import GateResult
from harness.plugin.session import Judging
from harness.report import junit

_SUMMARY_LIMIT = 1_000_000
"""GitHub cuts a step summary at 1 MiB."""


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


def workflow_commands(gates: Iterable[GateResult]) -> Iterator[str]:
    """GitHub's workflow commands, one for each check that did not pass."""
    for gate in gates:
        for result in gate.not_passed():
            yield _command("error" if result.verdict is Verdict.FAIL else "warning", result.id, result.message)
        for check in gate.missing:
            yield _command("warning", check, "did not report")
        for problem in gate.problems:
            yield _command("warning", gate.stage, problem)


def summary_markdown(gates: Iterable[GateResult], judging: Judging) -> str:
    """A table a gate, small enough for a step summary."""
    lines = []
    for gate in gates:
        word = "open" if gate.verdict is Verdict.PASS else "held"
        lines.append(f"### {judging.facts[gate.stage].job.name}: gate {gate.stage} {word}\n")
        lines += [f"{_cell(judging.recorded[gate.stage])}\n"] if gate.stage in judging.recorded else []
        lines.append("| check | verdict | saw |\n|---|---|---|")
        for result in gate.results:
            saw = "; ".join(f"{sight.name} = {sight.value}" for sight in result.saw)
            lines.append(f"| {_cell(result.id)} | {result.verdict.name} | {_cell(saw)} |")
        lines += [f"| {check} | UNKNOWN | did not report |" for check in gate.missing]
        lines += [f"| | UNKNOWN | {_cell(problem)} |" for problem in gate.problems]
        lines.append("")
    return "\n".join(lines)[:_SUMMARY_LIMIT]


def _command(kind: str, title: str, message: str) -> str:
    return f"::{kind} title={_escaped(title).replace(':', '%3A').replace(',', '%2C')}::{_escaped(message)}"


def _escaped(text: str) -> str:
    """As GitHub's own toolkit escapes what it writes (actions/toolkit, packages/core/src/command.ts)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _cell(text: str) -> str:
    for special in "\\`*_[]<>|":
        text = text.replace(special, f"\\{special}")
    return text.replace("\n", " ")[:300]
