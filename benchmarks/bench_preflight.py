"""Preflight's look at the training package, smoke run aside, beside json.loads over the same data files.

    python -m benchmarks.bench_preflight [PACKAGE]

PACKAGE is a training package whose data files are built; without one, a copy of this repository's is prepared.
Seconds are CPU seconds of this process, the best of eleven rounds in turns, so that other work on the machine
weighs little.

Bar: reading the rows, judging them and fitting them to the context, together within twice json.loads.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import rounds, table
from benchmarks.table import Row
from benchmarks.training_package import prepared
from harness.facts import preflight, preflight_data
from harness.job.load import load_job
from harness.static import launchers, options

try:
    import currency_converter  # noqa: F401 - the data is built from its rates
except ModuleNotFoundError as error:
    table.absent(error)

JOB = Path(__file__).resolve().parent.parent / "examples" / "forex-r1-v3.toml"
ON_ROWS = ("read the rows", "judge the rows", "fit the context")
ROUNDS, QUICK_ROUNDS = 11, 5
BAR = 2.0


def measure(package: Path, count: int) -> Iterator[Row]:
    """A row for each part of the look, then the parts on rows and the whole."""
    job = load_job(JOB)
    folder = package / job.data.directory
    files = [package / name for name in job.data.paths.values()] + sorted(folder.glob(preflight_data.EVALUATION))

    def rival() -> None:
        for path in files:
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    json.loads(line)

    data = preflight_data.read(job, package)
    sources = preflight._sources(package)  # noqa: SLF001 - the parts of one look, timed apart
    parts = {
        "json.loads": rival,
        "read the rows": lambda: preflight_data.read(job, package),
        "judge the rows": lambda: preflight_data.judged(job, data),
        "fit the context": lambda: preflight_data.context(job, data, package, None),
        "read the scripts": lambda: preflight._sources(package),  # noqa: SLF001
        "find launchers": lambda: launchers.find(sources, {}),
        "find option pairs": lambda: options.find(sources, job.package.entry),
    }
    actions = {name: rounds.timed(part, clock=time.process_time) for name, part in parts.items()}
    best = {name: min(seconds) for name, seconds in rounds.in_turns(actions, count).items()}
    theirs = best.pop("json.loads")
    for name, seconds in best.items():
        yield Row(name, "json.loads", seconds, theirs)
    count = sum(len(file.rows) for file in (*data.training, *data.evaluation))
    yield Row(f"over {count} rows", "json.loads", sum(best[name] for name in ON_ROWS), theirs, BAR)
    yield Row(f"whole look, {len(sources.scripts)} scripts too", "json.loads", sum(best.values()), theirs)


def rows(wanted: argparse.Namespace) -> Iterator[Row]:
    """Measure the package that was named, or a prepared copy of this repository's."""
    count = QUICK_ROUNDS if wanted.quick else ROUNDS
    if wanted.package:
        yield from measure(wanted.package.resolve(), count)
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield from measure(prepared(Path(scratch)), count)


if __name__ == "__main__":
    parser = table.parser(__doc__)
    parser.add_argument("package", type=Path, nargs="?", metavar="PACKAGE")
    table.run(parser.parse_args(), rows)
