"""Preflight's look at the forex package, smoke run aside, against json.loads over the same data files.

    python benchmarks/bench_preflight.py [PACKAGE]

PACKAGE is a prepared training package (data files built). Times are CPU seconds of this process, the
best of eleven interleaved rounds, so that other work on the machine weighs little.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness.facts import preflight, preflight_data
from harness.job import staging
from harness.job.load import load_job
from harness.static import launchers, options

ROUNDS = 11


def main(package: Path) -> None:
    """Print each part's seconds and its ratio to json.loads."""
    job = load_job(Path(__file__).resolve().parent.parent / "examples" / "forex-r1-v3.toml")
    folder = package / job.data.directory
    files = [package / name for name in staging.data_files(job)] + sorted(folder.glob(preflight_data.EVALUATION))

    def rival() -> None:
        for path in files:
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    json.loads(line)

    data = preflight_data.read(job, package)
    sources = preflight._sources(package)  # noqa: SLF001 - the parts of one look, timed apart
    parts: dict[str, Callable[[], object]] = {
        "json.loads": rival,
        "read the rows": lambda: preflight_data.read(job, package),
        "judge the rows": lambda: preflight_data.unsound(job, data),
        "fit the context": lambda: preflight_data.context(job, data, package, None),
        "read the scripts": lambda: preflight._sources(package),  # noqa: SLF001
        "find launchers": lambda: launchers.find(sources, {}),
        "find option pairs": lambda: options.find(sources, job.package.entry),
    }
    best = dict.fromkeys(parts, float("inf"))
    for _ in range(ROUNDS):
        for name, part in parts.items():
            began = time.process_time()
            part()
            best[name] = min(best[name], time.process_time() - began)
    rows = sum(len(file.rows) for file in (*data.training, *data.evaluation))
    print(f"{rows} rows, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB; {len(sources.scripts)} scripts")
    for name, seconds in best.items():
        print(f"{name:20} {seconds:.3f} s  {seconds / best['json.loads']:.2f}")
    on_rows = sum(best[name] for name in ("read the rows", "judge the rows", "fit the context"))
    total = sum(best.values()) - best["json.loads"]
    print(f"{'over the rows':20} {on_rows:.3f} s  {on_rows / best['json.loads']:.2f}")
    print(f"{'whole look':20} {total:.3f} s  {total / best['json.loads']:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "training_pkg").resolve())
