"""Ways to train one job: what each needs, how much slower or faster it is reckoned, and what its figures rest on."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import bench_gpu
from harness.core import shipped
from harness.job import benchmarked, layouts
from harness.job.layouts import DDP, SEEDS, SINGLE, GpuLayout, Strategy
from harness.job.model import Job
from tests.support.job_histories import job


@pytest.mark.parametrize(
    ("strategy", "speeds"),
    [
        (SEEDS, {1: 1.0, 2: 2.0, 3: 2.5, 8: 2.5}),
        (SINGLE, {1: 1.0, 8: 1.0}),
        (DDP, {1: 1.0, 2: 1.6, 3: 2.4, 4: 3.0, 8: 3.0}),
    ],
)
def test_no_strategy_is_faster_than_its_word_or_its_proof(strategy: Strategy, speeds: dict[int, float]) -> None:
    assert {gpus: strategy.speed(gpus) for gpus in speeds} == pytest.approx(speeds)


@pytest.mark.parametrize(
    ("layout", "than", "slower"),
    [
        (GpuLayout(SEEDS, "H100 SXM", 8), GpuLayout(SEEDS, "H100_SXM", 8), 1.0),
        (GpuLayout(SINGLE, "H100 SXM", 1), GpuLayout(SEEDS, "H100_SXM", 8), 2.5),
        (GpuLayout(SEEDS, "H100 SXM", 8), GpuLayout(SINGLE, "H200", 1), 1 / 2.5),
        (GpuLayout(DDP, "H100 SXM", 8), GpuLayout(SEEDS, "H100_SXM", 8), 2.5 / 3),
        (GpuLayout(SINGLE, "H100 PCIE", 1), GpuLayout(SINGLE, "H100 SXM", 1), 989 / 756),
        (GpuLayout(SINGLE, "H100", 1), GpuLayout(SINGLE, "H200", 1), 1.0),
        (GpuLayout(SINGLE, "RTX 4090", 1), GpuLayout(SEEDS, "RTX 4090", 4), 2.5),
        (GpuLayout(SINGLE, "H100", 1), GpuLayout(SEEDS, "RTX 4090", 4), None),
        (GpuLayout(SINGLE, "GH200", 1), GpuLayout(SINGLE, "H200", 1), None),
    ],
)
def test_a_layout_is_as_slow_as_speeds_and_peaks_say(layout: GpuLayout, than: GpuLayout, slower: float | None) -> None:
    assert layout.slower(than) == (slower if slower is None else pytest.approx(slower))


def named(of: Any) -> list[str]:
    return [str(layouts.layout(way)) for way in layouts.ways(of)]


CPU = {"training": {"accelerator": "cpu"}}


@pytest.mark.parametrize(
    ("tables", "ways"),
    [
        ({}, ["seeds on 8x H100_SXM", "ddp on 8x H100_SXM", "single on 1x H100", "single on 1x H200"]),
        (
            {"machine": {"gpu": "A100_SXM4", "gpus": 4}},
            [
                "seeds on 4x A100_SXM4",
                "ddp on 4x A100_SXM4",
                "single on 1x H100",
                "single on 1x H200",
                "single on 1x A100_SXM4",
            ],
        ),
        (
            {"machine": {"gpu": "RTX_4090", "gpus": 2}},
            ["seeds on 2x RTX_4090", "ddp on 2x RTX_4090", "single on 1x RTX_4090"],
        ),
        ({"machine": {"gpus": 1}}, ["seeds on 1x H100_SXM", "single on 1x H100", "single on 1x H200"]),
        (CPU, ["seeds on 8x H100_SXM"]),
        ({"provider": {"kind": "ssh", "host": "box"}}, ["seeds on 8x H100_SXM"]),
    ],
)
def test_the_ways_beside_what_the_job_file_asks_for(tables: dict[str, Any], ways: list[str]) -> None:
    assert named(job(**tables)) == ways


def asking(name: str) -> Job:
    """A job whose file names a strategy."""
    of = job()
    return of.model_copy(update={"training": of.training.model_copy(update={"strategy": name})})


@pytest.mark.parametrize(("name", "strategy"), [("ddp", DDP), ("single", SINGLE), ("seeds", SEEDS)])
def test_the_strategy_of_a_job_file(name: str, strategy: Strategy) -> None:
    assert layouts.of(asking(name)) is strategy
    assert layouts.of(job()) is SEEDS


def test_beside_another_strategy_stands_the_seeds() -> None:
    assert named(asking("ddp"))[:2] == ["ddp on 8x H100_SXM", "seeds on 8x H100_SXM"]


@pytest.mark.parametrize(
    ("strategy", "ram_mb", "fits"),
    [(SINGLE, 81_559, True), (SINGLE, 20_000, False), (SINGLE, 0, True), (SEEDS, 20_000, True), (DDP, 20_000, False)],
)
def test_who_holds_the_whole_model_needs_room_for_it(strategy: Strategy, ram_mb: float, fits: bool) -> None:
    assert layouts.fits(asking(strategy.name), 17.2e9, ram_mb) is fits


# --- the benchmark's pages ------------------------------------------------------------------------


def page(card: str, *, shape: str = "7B", jobs: tuple[str, ...] = ("sft ours", "dpo ours")) -> str:
    """A page as the benchmark writes it."""
    figures = {"micro_batch": 8, "checkpointing": False, "s_per_step": 4.0, "cpu_s_per_step": 1.0}
    figures |= {"samples_per_s": 32.0, "tokens_per_s": 6000, "padding": 0.03}
    known = {
        "card": {"name": card, "gib": 79.2},
        "date": "2026-11-28 16:42 UTC",
        "python": "3.12.3",
        "versions": {"torch": "2.13.0"},
        "cores": 16,
        "load": 1.0,
        "shape": shape,
        "rows_a_step": {"sft": 128, "dpo": 32},
    }
    return bench_gpu.report(known, dict.fromkeys(jobs, figures))


@pytest.fixture
def results(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setattr(shipped, "folder", lambda _: tmp_path)
    return folder


def test_a_card_that_was_measured_tells_the_seconds_of_all_steps(results: Any) -> None:
    (results / "nvidia-h100-80gb-hbm3.md").write_text(page("NVIDIA H100 80GB HBM3"))
    ((layout, seconds, source),) = benchmarked.steps(job())
    assert (layout.strategy, layout.gpus, source) == (SINGLE, 1, "benchmarks/results/nvidia-h100-80gb-hbm3.md")
    assert layout.same(GpuLayout(SINGLE, "H100 SXM", 1))
    assert seconds == pytest.approx((330 * 128 + 80 * 32) / 32)


@pytest.mark.parametrize(
    "text",
    [
        page(""),  # no GPU
        page("NVIDIA H200", shape="tiny"),
        page("NVIDIA H200", jobs=("sft ours",)),  # this job trains by dpo, too
        page("NVIDIA H200", jobs=("sft plain", "dpo plain")),
        page("NVIDIA H200").replace("samples/s", "rows/s"),
        page("NVIDIA H200").replace("32.0", "n/a"),
        page("NVIDIA H200").replace("32.0", "0"),
        "",
    ],
)
def test_a_page_that_says_nothing_of_this_job_counts_for_nothing(text: str, results: Any) -> None:
    (results / "page.md").write_text(text)
    assert benchmarked.steps(job()) == ()


@pytest.mark.parametrize("tables", [{"model": {"hidden_size": 2048}}, {"model": {"lora_r": 8}}, CPU])
def test_another_model_was_not_measured(tables: dict[str, Any], results: Any) -> None:
    (results / "nvidia-h200.md").write_text(page("NVIDIA H200"))
    assert benchmarked.steps(job())
    assert benchmarked.steps(job(**tables)) == ()


def test_the_pages_of_this_repository_are_read() -> None:
    """Today none of them is of a GPU; one that is lands in the plan by lying there."""
    found = benchmarked.steps(job())
    pages = (shipped.folder("benchmarks") / "results").glob("*.md")
    assert bool(found) is any("GiB" in page.read_text(encoding="utf-8").split("\n- ")[1] for page in pages)
