"""The report of a run, to be attached to a bug report: Markdown and JSON, dated, with versions and without secrets."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness import __version__
from harness.conformance.run import Answer, Conformance, Outcome
from harness.core import durable
from harness.core.canonical import Json
from harness.core.text import rfc3339, table_cell
from harness.providers.assumptions import Assumption


def table(rows: Sequence[Assumption]) -> str:
    """The beliefs about a provider, as docs/conformance.md shows them."""
    lines = ["| id | belief | source | rests on it | a run |", "|---|---|---|---|---|"]
    for row in rows:
        tried = "tries it" if row.trial else f"does not: {row.untried}"
        lines.append(f"| {row.id} | {' | '.join(map(table_cell, (row.claim, row.source, row.rests, tried)))} |")
    return "\n".join(lines) + "\n"


def write(run: Conformance, folder: Path, ended: str) -> tuple[Path, Path]:
    """Write both files; their paths. ``ended`` says how the run did."""
    told = _told(run, ended)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"conformance-{told['provider']}-{str(told['date'])[:10]}-{run.bench.run.nonce}"
    markdown, data = folder / f"{name}.md", folder / f"{name}.json"
    keys = run.bench.subject.keys
    for path, text in ((markdown, _markdown(told, run.answers())), (data, json.dumps(told, indent=1) + "\n")):
        durable.write(path, (text.replace(keys[1], "(the API key)") if keys else text).encode())
    return markdown, data


def counted(answers: Sequence[Answer]) -> str:
    """How many rows came to which answer."""
    found = Counter(one.outcome for one in answers)
    return ", ".join(f"{found[one]} {one}" for one in Outcome)


def _told(run: Conformance, ended: str) -> dict[str, Json]:
    bench, offer = run.bench, run.bench.rented
    return {
        "provider": bench.subject.provider.name,
        "date": rfc3339(bench.clock.now()),
        "ended": ended,
        "versions": {"gold-standard-harness": __version__, "python": platform.python_version(), **_versions(run)},
        "system": f"{platform.system()} {platform.machine()}",
        "image": bench.subject.image,
        "machine": f"{offer.num_gpus}x {offer.gpu_name}, ${offer.usd_per_hour:.4f}/h, {offer.place}" if offer else None,
        "budget_usd": run.plan.budget,
        "charged_usd": bench.run.usd,
        "rows": [{**asdict(one.row), "outcome": str(one.outcome), "seen": one.seen} for one in run.answers()],
    }


def _versions(run: Conformance) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for package in (*run.bench.subject.packages, "paramiko"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _markdown(told: dict[str, Json], answers: Sequence[Answer]) -> str:
    head = [f"# What was believed about {told['provider']}, tried on {told['date']}", "", f"{counted(answers)}.", ""]
    head += [f"- {name}: {told[name]}" for name in ("ended", "machine", "image", "budget_usd", "charged_usd", "system")]
    head += [f"- versions: {json.dumps(told['versions'])}", "", "| id | answer | belief | seen |", "|---|---|---|---|"]
    cells = [(one.row.id, one.outcome, table_cell(one.row.claim), table_cell(one.seen)) for one in answers]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in cells)]) + "\n"
