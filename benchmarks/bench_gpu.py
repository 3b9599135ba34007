"""Training and export on one GPU: TRL's defaults, ours, ours with each lever; tokens/s, MFU, peak memory, GB/s.

    python -m benchmarks.bench_gpu --wheels DIR --out DIR     # the 7B's shape; under 8 minutes on an H100 or H200
    python -m benchmarks.bench_gpu --tiny --out DIR           # the same code on any CPU; says nothing about a GPU

Random weights in the shape of DeepSeek-R1-Distill-Qwen-7B, the package's adapter and rows, steps of 128 rows (SFT) and
32 pairs (DPO). ``plain`` is TRL's trainer with its own defaults (micro-batch 8, checkpointing, rows in random order);
``ours`` is the very trainer of training_pkg with its defaults; the others are ours with one lever changed. Each is
measured in a process of its own with a time limit; what the total budget has no room for is left out with a word, the
least important last in the list. JSON lines go to the output and to DIR/gpu.jsonl, the table to DIR/<card>.md.

``--wheels`` is a folder of pure wheels that the machine lacks; they are unpacked and found first. Nothing else of the
project's extras is needed: ``trl datasets transformers peft accelerate dill multiprocess CurrencyConverter``, and, for
more, ``gguf`` (the exported files are loaded by transformers) and ``liger-kernel`` (the lever ``kernels``).

A step's time runs from the end of the one before it to its own, data loading included; the first warms up. Tokens are
those of rows, padding is not counted. ``mfu`` counts what LoRA has to compute: 4 x the frozen matrices x tokens (the
forward, and the gradient of the activations), the output matrix for learned tokens only, 6 x the adapter x tokens, for
DPO the reference's forward too; neither attention's products (under 1 % at these lengths) nor what checkpointing
computes again. It is against the card's dense bfloat16 (NVIDIA's data sheets), or ``--peak-tflops``.

Bars, on an H100 or H200: SFT in 1 / 1.6 of TRL's seconds, and at 10.7k tokens/s (30 % of the H100's peak) or 12.5k on
an H200; the 7B's shape exported to Q8_0 in 60 s.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import platform
import re
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import benchmarks.training_package  # noqa: F401 - forex is found through it
from benchmarks import table
from benchmarks.table import Row

PLAIN, OURS = "plain", "ours"
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "liger-kernel", "triton", "gguf", "numpy")
PEAKS = {"H200": 989.0, "H100 PCIe": 756.0, "H100": 989.0, "A100": 312.0}
"""Dense bfloat16 TFLOP/s by a part of the card's name."""
TOKENS_BAR = {"H200": 12_500, "H100": 10_700}
SPEEDUP_BAR, EXPORT_BAR = 1.6, 60.0

LEVERS: dict[str, Mapping[str, Any]] = {
    OURS: {},
    "checkpointing": {"checkpointing": True},
    "micro-batch 8": {"micro_batch": 8},
    "compiled, padded to 16": {"compile": True, "pad_to": 16},
    "Liger's kernels": {"kernels": True},
    "no padding mask": {"pad_mask": False},
    "PEFT's casts": {"cast_inputs": True},
    "optimizer not fused": {"fused_optimizer": False},
}
"""Ways of ours, and what each changes of the package's defaults."""


class Job(NamedTuple):
    """One measurement: its kind, its way, and the most seconds that it may take."""

    kind: str
    way: str
    limit: float

    @property
    def name(self) -> str:
        """Kind and way."""
        return f"{self.kind} {self.way}".strip()


JOBS = (
    Job("prepare", "", 120),
    Job("sft", PLAIN, 100),
    Job("sft", OURS, 100),
    Job("dpo", PLAIN, 100),
    Job("dpo", OURS, 100),
    Job("right", "", 100),
    Job("export", "", 150),
    *(Job("sft", way, 90) for way in LEVERS if way != OURS),
)
"""The most important first."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """Sizes of what is measured, and the folder where jobs leave files for each other."""

    scratch: Path
    tiny: bool
    steps: int
    peak_tflops: float | None

    @property
    def rows(self) -> dict[str, int]:
        """Rows a step, by the kind of training."""
        return {"sft": 16, "dpo": 8} if self.tiny else {"sft": 128, "dpo": 32}

    def answer(self, job: Job) -> Path:
        """The file in which a job leaves its figures."""
        return self.scratch / (re.sub(r"[^a-z0-9]+", "-", job.name.lower()) + ".json")


def child(bench: Bench, job: Job, paths: list[str]) -> None:
    """One job in its own process: its words go to a log, its figures to a file."""
    sys.path[:] = paths
    answer = bench.answer(job)
    log = os.open(answer.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    try:
        import torch  # noqa: PLC0415 - slow, and not to be touched by a process that starts others

        from benchmarks import gpu_jobs  # noqa: PLC0415

        if bench.tiny:
            torch.set_num_threads(1)  # threads that wait for each other would measure what else the machine does
        found = gpu_jobs.WORK[job.kind](bench, job.way)
    except ModuleNotFoundError as error:
        found = {"failed": f"{error.name} is not installed"}
    except BaseException as error:  # noqa: BLE001 - whatever ended it is what is to be said of it
        traceback.print_exc()
        found = {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
    answer.with_suffix(".part").write_text(json.dumps(found), encoding="utf-8")
    answer.with_suffix(".part").rename(answer)


def measured(bench: Bench, job: Job, limit: float) -> dict[str, Any]:
    """A job's figures, or what kept it from them; a process that overruns its limit is killed."""
    answer = bench.answer(job)
    # A fork saves the imports; a process that is to use CUDA must not be one.
    context: Any = multiprocessing.get_context("fork" if bench.tiny else "spawn")
    process = context.Process(target=child, args=(bench, job, sys.path))
    began = time.monotonic()
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
    took = round(time.monotonic() - began, 1)
    if answer.exists():
        return {**json.loads(answer.read_text(encoding="utf-8")), "took_s": took}
    why = f"no end within {limit:.0f} s" if took >= limit else f"died with exit code {process.exitcode}"
    return {"failed": why, "took_s": took}


def about(bench: Bench) -> dict[str, Any]:
    """Card and versions."""
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "card": {"name": "", **measured(bench, Job("card", "", 90), 90)},
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "versions": versions,
        "rows_a_step": bench.rows,
        "shape": "tiny" if bench.tiny else "7B",
    }


def results(options: argparse.Namespace, bench: Bench) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Every job's figures, as long as the budget lasts."""
    end = time.monotonic() + options.budget
    jobs = [job for job in JOBS if not options.quick or job.kind == "prepare" or job.way in {PLAIN, OURS}]
    if options.only:
        jobs = [job for job in jobs if job.kind == "prepare" or job.name in options.only]
    for job in jobs:
        left = end - time.monotonic()
        found = {"left_out": "no time left"} if left < 15 else measured(bench, job, min(job.limit, left))
        yield job, found


def rows_of(options: argparse.Namespace) -> Iterator[Row]:
    """Measure everything; ours beside TRL's, and beside the bars where there is the card for them."""
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    tiny = options.tiny or options.quick
    with tempfile.TemporaryDirectory(prefix="bench-gpu-", dir=options.scratch) as name:
        bench = Bench(Path(name), tiny, options.steps, options.peak_tflops)
        if options.wheels:
            for wheel in sorted(options.wheels.glob("*.whl")):
                zipfile.ZipFile(wheel).extractall(bench.scratch / "site")
            sys.path.insert(0, str(bench.scratch / "site"))
        if tiny:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
            try:
                from benchmarks import gpu_jobs  # noqa: F401, PLC0415 - once, for every fork
            except ModuleNotFoundError as error:
                table.absent(error)
        known = about(bench)
        if not tiny and not known["card"]["name"]:
            table.unable(str(known["card"].get("failed", "there is no GPU here; --tiny runs the same code on the CPU")))
        found: dict[str, dict[str, Any]] = {}
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "gpu.jsonl").write_text("", encoding="utf-8")
        _say(options.out, known, known, found)
        for job, seen in results(options, bench):
            found[job.name] = seen
            _say(options.out, {"job": job.name, **seen}, known, found)
            log = bench.answer(job).with_suffix(".log")
            if "failed" in seen and log.exists():
                (options.out / log.name).write_bytes(log.read_bytes()[-20_000:])
            if job.kind == "prepare" and "failed" in seen:
                table.unable(f"nothing can be measured: {seen['failed']}")
        yield from compared(found, known["card"]["name"])


def _say(folder: Path, line: Mapping[str, Any], known: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Print a line, and keep it and the page as they are so far."""
    print(json.dumps(line), flush=True)
    with (folder / "gpu.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    slug = re.sub(r"[^a-z0-9]+", "-", (known["card"]["name"] or "gpu-tiny").lower()).strip("-")
    (folder / f"{slug}.md").write_text(report(known, found), encoding="utf-8")


def compared(found: Mapping[str, Mapping[str, Any]], name: str) -> Iterator[Row]:
    """The rows of the table of all benchmarks."""
    device = name or "CPU, tiny shape"

    def taken(job: str, field: str = "s_per_step") -> tuple[float | None, str]:
        seen = found.get(job, {"left_out": "not asked for"})
        figure: float | None = seen.get(field)
        return figure, "" if figure is not None else str(seen.get("failed") or seen.get("left_out"))

    for kind in ("sft", "dpo"):
        theirs, why = taken(f"{kind} {PLAIN}")
        for way in LEVERS:
            if f"{kind} {way}" in found:
                mine, reason = taken(f"{kind} {way}")
                bar = 1 / SPEEDUP_BAR if name and (kind, way) == ("sft", OURS) else None
                what = f"{kind.upper()} step, {device}: {way}"
                yield Row(what, "TRL's defaults", mine, theirs, bar, why=reason or why)
    wanted = next((tokens for part, tokens in TOKENS_BAR.items() if part in name), None)
    mine, why = taken(f"sft {OURS}")
    if wanted and mine:
        ideal = mine * found[f"sft {OURS}"]["tokens_per_s"] / wanted
        yield Row(f"SFT step, {device}", f"{wanted} tokens/s", mine, ideal, 1.0)
    elif not name:
        yield Row("SFT step, 7B shape, one GPU", "30 % of the H100's peak", bar=None, why="no GPU here")
    if "export" in found:
        mine, why = taken("export", "seconds")
        yield Row(f"export to Q8_0, {device}", "a minute", mine, EXPORT_BAR, 1.0 if name else None, why=why)


def report(known: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> str:
    """The results as a page."""
    card = known["card"]
    heads = (
        "job",
        "at once",
        "checkpointing",
        "s/step",
        "CPU s/step",
        "samples/s",
        "tokens/s",
        "MFU",
        "padding",
        "peak GiB",
        "x",
    )
    lines, others = [], []
    for name, seen in found.items():
        if "s_per_step" not in seen:
            others.append(f"{name}: {json.dumps(seen)}")
            continue
        base = found.get(f"{name.split()[0]} {PLAIN}", {}).get("s_per_step")
        cells = (
            seen["micro_batch"],
            "on" if seen["checkpointing"] else "off",
            seen["s_per_step"],
            seen["cpu_s_per_step"],
            seen["samples_per_s"],
            seen["tokens_per_s"],
            f"{seen['mfu']:.1%}" if "mfu" in seen else "",
            f"{seen['padding']:.1%}",
            seen.get("peak_gib", ""),
            f"{base / seen['s_per_step']:.2f}" if base else "",
        )
        lines.append((name, *map(str, cells)))
    facts = [
        f"{known['date']}, {card['name'] + ', ' + str(card['gib']) + ' GiB' if card['name'] else 'no GPU'}",
        f"Python {known['python']}, " + ", ".join(f"{name} {number}" for name, number in known["versions"].items()),
        f"{known['cores']} cores at a load of {known['load']}",
        f"{known['shape']} shape, steps of {known['rows_a_step']['sft']} rows and {known['rows_a_step']['dpo']} pairs",
        "x: seconds of TRL's defaults / this one's, for the same samples.",
    ]
    page = "# Training and export on one GPU\n\n" if card["name"] else "# The GPU benchmark's code on a CPU\n\n"
    page += "".join(f"- {fact}\n" for fact in facts) + "\n" + table.markdown(heads, lines)
    return page + "\n" + "".join(f"- {other}\n" for other in others)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = table.parser(__doc__)
    made.add_argument("--tiny", action="store_true", help="a tiny shape on the CPU; --quick: with TRL and ours alone")
    made.add_argument("--wheels", type=Path, metavar="DIR", help="wheels of packages that this machine lacks")
    made.add_argument("--out", type=Path, metavar="DIR", default=Path("bench-gpu"), help="where the results go")
    made.add_argument("--scratch", type=Path, metavar="DIR", help="where 25 GB may lie meanwhile")
    made.add_argument("--budget", type=float, default=450, metavar="S", help="seconds of all measurements together")
    made.add_argument("--steps", type=int, default=3, help="optimizer steps that are measured in each way")
    made.add_argument("--peak-tflops", type=float, metavar="N")
    made.add_argument("--only", action="append", metavar="JOB", help='such as "sft ours"; may be repeated')
    return made


if __name__ == "__main__":
    table.run(parser().parse_args(), rows_of)
