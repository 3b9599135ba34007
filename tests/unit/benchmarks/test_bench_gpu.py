from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench_gpu, table
from benchmarks.bench_gpu import JOBS, LEVERS, OURS, PLAIN, Bench, Job
from benchmarks.table import Standing

ROOT = Path(__file__).resolve().parents[3]
H100 = "NVIDIA H100 80GB HBM3"
NOT_NEEDED = ("harness", "typer", "sqlalchemy", "paramiko", "cryptography", "platformdirs", "rfc8785", "xdist")
"""Of the project's extras and dependencies, what a machine with a GPU need not have."""

_REFUSES = f"""
import sys
from importlib.machinery import ModuleSpec
class Refuses:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.partition(".")[0] in {NOT_NEEDED!r} else None
    def create_module(self, spec):
        raise ModuleNotFoundError(f"No module named {{spec.name!r}}", name=spec.name)
    def exec_module(self, module):
        pass
sys.meta_path.insert(0, Refuses())
"""
"""Who asks whether one is there, as datasets does, is told so; who imports it is refused."""


def figures(each: float, tokens: int = 10_000) -> dict[str, Any]:
    return {
        "micro_batch": 16,
        "checkpointing": False,
        "s_per_step": each,
        "cpu_s_per_step": each,
        "samples_per_s": 1.0,
        "tokens_per_s": tokens,
        "padding": 0.01,
    }


def options(*words: str) -> Any:
    return bench_gpu.parser().parse_args(words)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, tiny=True, steps=1, peak_tflops=None)


def test_every_job_has_its_work_and_what_matters_comes_first() -> None:
    names = [job.name for job in JOBS]
    assert len(set(names)) == len(names)
    assert names[:5] == ["prepare", "sft plain", "sft ours", "dpo plain", "dpo ours"]
    assert {job.way for job in JOBS if job.kind == "sft"} == {PLAIN, *LEVERS}


def test_what_the_budget_has_no_room_for_is_left_out_with_a_word(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    limits: list[float] = []

    def measured(_: Bench, job: Job, limit: float) -> dict[str, Any]:
        limits.append(limit)
        clock[0] += 30
        return {"job": job.name}

    monkeypatch.setattr(bench_gpu, "measured", measured)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    found = list(bench_gpu.results(options("--budget", "130"), bench))
    assert [job.name for job, seen in found if seen == {"left_out": "no time left"}] == [j.name for j in JOBS[4:]]
    assert limits == [120, 100, 70, 40]
    assert len(found) == len(JOBS)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--quick"], ["prepare", "sft plain", "sft ours", "dpo plain", "dpo ours"]),
        (["--only", "export"], ["prepare", "export"]),
    ],
)
def test_only_what_is_asked_for_is_measured(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, words: list[str], names: list[str]
) -> None:
    monkeypatch.setattr(bench_gpu, "measured", lambda *_: {})
    assert [job.name for job, _ in bench_gpu.results(options(*words), bench)] == names


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the tiny run forks")
@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda: time.sleep(60), "no end within 1 s"),
        (lambda: os.kill(os.getpid(), 9), "died with exit code -9"),
        (lambda: os._exit(7), "died with exit code 7"),
    ],
)
def test_a_job_that_hangs_or_dies_loses_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, end: Callable[[], None], said: str
) -> None:
    monkeypatch.setattr(bench_gpu, "child", lambda *_: end())
    began = time.monotonic()
    found = bench_gpu.measured(bench, Job("sft", OURS, 1), 1)
    assert found["failed"] == said
    assert time.monotonic() - began < 30


def test_the_bars_are_those_of_the_card() -> None:
    found: dict[str, dict[str, Any]] = {
        "sft plain": figures(10.0),
        "sft ours": figures(5.0, 12_000),
        "sft compiled, padded to 16": {"failed": "no end within 90 s", "took_s": 90.0},
        "dpo plain": {"left_out": "no time left"},
        "dpo ours": figures(2.0),
        "export": {"seconds": 70.0},
    }
    told = {(row.what, row.rival): row for row in bench_gpu.compared(found, H100)}
    step = f"SFT step, {H100}"
    assert told[f"{step}: ours", "TRL's defaults"].standing is Standing.MET
    assert told[step, "10700 tokens/s"].ratio == pytest.approx(10_700 / 12_000)
    compiled = told[f"{step}: compiled, padded to 16", "TRL's defaults"]
    assert (compiled.standing, compiled.why) == (Standing.NOT_MEASURED, "no end within 90 s")
    assert told[f"DPO step, {H100}: ours", "TRL's defaults"].why == "no time left"
    assert told[f"export to Q8_0, {H100}", "a minute"].standing is Standing.MISSED
    slower = found | {"sft ours": figures(6.3, 12_000)}
    assert next(row.standing for row in bench_gpu.compared(slower, "NVIDIA H200")) is Standing.MISSED
    assert any(row.rival == "12500 tokens/s" and row.fails for row in bench_gpu.compared(slower, "NVIDIA H200"))


def test_on_a_cpu_no_bar_is_met_or_missed() -> None:
    found = {"sft plain": figures(2.0), "sft ours": figures(9.0), "export": {"seconds": 99.0}}
    rows = list(bench_gpu.compared(found, ""))
    assert not any(row.fails for row in rows)
    assert Standing.MET not in {row.standing for row in rows}


def test_without_a_gpu_the_whole_benchmark_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_gpu, "measured", lambda *_: {})
    with pytest.raises(SystemExit) as ended:
        list(bench_gpu.rows_of(options("--out", str(tmp_path))))
    assert ended.value.code == table.ABSENT
    assert "there is no GPU here; --tiny runs the same code" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the tiny run forks")
def test_the_tiny_run_needs_nothing_else_of_the_project_and_says_what_a_gpu_run_says(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_REFUSES, encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.bench_gpu", "--tiny", "--steps", "1", "--out", str(tmp_path / "out")]
    ended = subprocess.run(
        [*command, "--budget", "3000"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    lines = [json.loads(line) for line in (tmp_path / "out" / "gpu.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {line["job"]: line for line in lines[1:]}
    assert list(found) == [job.name for job in JOBS]
    assert not [line for line in lines if "failed" in line or "left_out" in line]
    assert lines[0]["versions"].keys() >= {"torch", "trl", "transformers", "peft"}
    for kind in ("sft", "dpo"):
        plain, ours = found[f"{kind} {PLAIN}"], found[f"{kind} {OURS}"]
        assert ours["losses"] == pytest.approx(plain["losses"], rel=0.01)
        assert ours["tokens_per_row"] == pytest.approx(plain["tokens_per_row"], rel=0.02)
        assert ours["padding"] < plain["padding"]
    assert 195 < found["sft ours"]["tokens_per_row"] < 212  # as with the real vocabulary
    assert found["sft checkpointing"]["checkpointing"]
    right = found["right"]
    assert right["loss_falls"]
    assert right["resume_bit_equal"]
    assert right["first_dpo_loss"] == pytest.approx(0.693147, abs=1e-5)
    page = (tmp_path / "out" / "gpu-tiny.md").read_text(encoding="utf-8")
    assert "| sft ours | 8 | off |" in page
