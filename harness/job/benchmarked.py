"""Speeds that the GPU benchmark measured, from the pages that lie in ``benchmarks/results``.

A page counts for the very model that it is of; a tiny shape and a processor count for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from harness.core import shipped
from harness.job.layouts import SINGLE, GpuLayout
from harness.job.model import Job

_OF = {"hidden_size": 3584, "num_hidden_layers": 28, "intermediate_size": 18944, "vocab_size": 152064, "lora_r": 64}
"""The model whose shape the benchmark trains, with its adapter."""
_CARD = re.compile(r"(?m)^- [-0-9]{10} [:0-9]{5} UTC, (?:NVIDIA )?(?P<name>.*), [\d.]+ GiB$")
_SHAPE = re.compile(r"(?m)^- 7B shape, steps of (?P<sft>\d+) rows and (?P<dpo>\d+) pairs$")


def steps(job: Job) -> tuple[tuple[GpuLayout, float, str], ...]:
    """Seconds of all steps of a job on one GPU, by the GPUs that were measured, with the page of each."""
    if job.training.accelerator != "cuda" or any(getattr(job.model, name) != value for name, value in _OF.items()):
        return ()
    rows = {trainer: steps * job.training.rows_a_step(trainer) for trainer, steps in job.training.steps.items()}
    found = []
    for page in sorted((shipped.folder("benchmarks") / "results").glob("*.md")):
        with suppress(OSError, ValueError):
            for gpu, rates in _measured(page.read_text(encoding="utf-8")):
                if all(count and rates.get(trainer) for trainer, count in rows.items()):
                    seconds = sum(count / rates[trainer] for trainer, count in rows.items())
                    found.append((GpuLayout(SINGLE, gpu, 1), seconds, f"benchmarks/results/{page.name}"))
    return tuple(found)


def _measured(page: str) -> Iterator[tuple[str, Mapping[str, float]]]:
    """The card of a page, and samples a second by trainer, where it is one of the whole model on a card."""
    card, head = _CARD.search(page), re.search(r"(?m)^\| job \|.*$", page)
    if card is None or head is None or _SHAPE.search(page) is None:
        return
    column = [cell.strip() for cell in head[0].split("|")].index("samples/s")
    ours = {line.split("|")[1].strip(): line.split("|") for line in page[head.end() :].splitlines() if "|" in line}
    yield (
        card["name"],
        {trainer: float(ours[f"{trainer} ours"][column]) for trainer in ("sft", "dpo") if f"{trainer} ours" in ours},
    )
