"""``harness verify PATH``: what lies there, judged without a job, on any machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from harness.artifacts import apart, expectation, judging
from harness.cli.wording import STYLES
from harness.core.errors import GateHeld, GateUnknown
from harness.core.finding import Finding
from harness.core.text import one_line
from harness.core.verdict import Verdict, worst


def verify(
    path: Annotated[
        Path,
        typer.Argument(
            help="A GGUF (one of a split stands for all), the folder of an adapter, a checkpoint or a model, a .jsonl,"
            " a training's .log."
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(help="The base model's folder, or any folder that the training wrote."),
    ] = None,
    expect: Annotated[
        str,
        typer.Option(help="Of a GGUF: quant=Q8_0,over=5GB,size=BYTES,zero_rows=yes, any of these."),
    ] = "",
    sha256: Annotated[str | None, typer.Option(help="Of a GGUF: the digest that was recorded on the box.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON, for machines.")] = False,
) -> None:
    """Judge a file or a folder by what it is: whole, as its configuration says, every number finite. 0 is sound."""
    known = expectation.of(config, expect, sha256)
    kind = judging.kind_of(path, known)
    findings = apart.findings(judging.judge_as, kind, path, known)
    verdict = worst(finding.verdict for finding in findings)
    if as_json:
        found = [asdict(finding) for finding in findings]
        typer.echo(json.dumps({"file": str(path), "kind": kind, "verdict": verdict, "findings": found}, indent=1))
    else:
        _show(Console(), path, findings)
    if verdict is not Verdict.PASS:
        shut = [finding for finding in findings if finding.verdict is not Verdict.PASS]
        told = f"{path.resolve().name}: {', '.join(finding.id for finding in shut)}"
        remedy = next((finding.remedy for finding in shut if finding.verdict is verdict), None)
        raise (GateHeld if verdict is Verdict.FAIL else GateUnknown)(told, remedy=remedy)


def _show(console: Console, file: Path, findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        head = Text.assemble(
            (f"{finding.verdict.upper():<8}", STYLES[finding.verdict]), f"{finding.id}: {finding.claim}"
        )
        console.print(head, soft_wrap=True)
        console.print(Text(f"        saw       {one_line(finding.seen, 700)}", style="dim"), soft_wrap=True)
        if finding.verdict is not Verdict.PASS:
            console.print(Text(f"        expected  {one_line(finding.expected, 700)}", style="dim"), soft_wrap=True)
    if all(finding.verdict is Verdict.PASS for finding in findings):
        console.print(Text(f"verified: {file}", style="bold green"), soft_wrap=True)
