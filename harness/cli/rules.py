"""``harness rules``: the operating rules, to be read before anything else."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.core import shipped
from harness.shellguard import handbook as operating_rules
from harness.shellguard import seeds

app = typer.Typer(help="The operating rules: what the command guard holds, and what every gate demands.")


class Format(StrEnum):
    """Form in which the rules are printed."""

    MD = "md"
    JSON = "json"


@app.callback(invoke_without_command=True)
def rules(
    form: Annotated[Format, typer.Option("--format", help="Markdown for people and agents, JSON for machines.")] = (
        Format.MD
    ),
    trace: Annotated[
        bool, typer.Option("--trace", help="Each rule of the first user's documents, with the checks that keep it.")
    ] = False,
    write: Annotated[
        Path | None, typer.Option("--write", help="Bring the rules in a document up to date, or begin it.")
    ] = None,
) -> None:
    """Print the operating rules, or write them into a document."""
    claims = operating_rules.claims(shipped.folder("checks"))
    if trace:
        typer.echo(seeds.as_markdown(seeds.trace(claims)), nl=False)
    elif write is not None:
        changed = operating_rules.write(write, operating_rules.as_markdown(claims))
        typer.echo(f"{write} is up to date" + ("" if changed else " already"))
    elif form is Format.JSON:
        typer.echo(json.dumps(operating_rules.as_data(claims), indent=2))
    else:
        typer.echo(operating_rules.as_markdown(claims), nl=False)
