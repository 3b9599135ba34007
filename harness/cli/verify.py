"""``harness verify FILE.gguf``: the artifact's checks on any model file, without a job."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from harness.artifacts import apart, expectation
from harness.artifacts.verify import verify_file
from harness.cli.wording import STYLES, one_line
from harness.core.errors import GateHeld, GateUnknown
from harness.core.finding import Finding
from harness.core.verdict import Verdict, worst


def verify(
    file: Annotated[Path, typer.Argument(help="The model file, GGUF.")],
    config: Annotated[
        Path | None,
        typer.Option(help="The training's directory: config.json, and tokenizer.json when it is there."),
    ] = None,
    expect: Annotated[
        str,
        typer.Option(help="quant=Q8_0,over=5GB,size=BYTES,zero_rows=yes: any of these."),
    ] = "",
    sha256: Annotated[str | None, typer.Option(help="The digest that was recorded on the box.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON, for machines.")] = False,
) -> None:
    """Judge a model file: whole to the last byte, every tensor there, every scale finite, the tokenizer as trained."""
    findings = apart.findings(verify_file, file, expectation.of(config, expect, sha256))
    if as_json:
        typer.echo(json.dumps({"file": str(file), "findings": [asdict(finding) for finding in findings]}, indent=1))
    else:
        _show(Console(), file, findings)
    verdict = worst(finding.verdict for finding in findings)
    if verdict is not Verdict.PASS:
        shut = [finding for finding in findings if finding.verdict is not Verdict.PASS]
        told = f"{file.name}: {', '.join(finding.id for finding in shut)}"
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
