"""A whole small run: its log keeps the contract's grammar, its files say what happened, its refusals come first."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.slow

GRAMMAR = [
    r"V2 FOREX INTEGRATION: \d+ SFT \+ \d+ DPO samples from YOUR data",
    r"DATA (features|scenarios|pairs) rows=\d+ built=\d+ sha256=[0-9a-f]{64}",
    r"\[(sft|dpo)\] SCHEDULE \S+ warmup_steps=\d+ lr=\S+",
    r"PLAN sft_steps=7 dpo_steps=4 batch_size=32 checkpoint_every=2 lora_r=64 lora_alpha=128 \S+ world_size=1 \S+ \S+",
    r"\[sft\] EPOCHS 3\.5 rows=128 rows_a_step=64 accumulation=2 seen=448 cap=7 all_rows_need=2",
    r"\[dpo\] EPOCHS 2 rows=64 rows_a_step=32 accumulation=1 seen=128 cap=0 all_rows_need=2",
    r"\[(sft|dpo)\] MICRO BATCH \d+ of \d+ rows, checkpointing off: not measured on the CPU",
    r"\[(sft|dpo)\] step \d+/\d+ \(\d+%\) loss=\S+ lr=\S+ s/step=\S+",
    r"\[(sft|dpo)\] Saved checkpoint models/output/(sft|dpo)/checkpoint-\d+",
    r"\[(sft|dpo)\] COMPLETE \d+/\d+ steps",
    r"\[dpo\] first loss=0\.69314\d",
    r"\[export\] GGUF models/output/final/small\.Q8_0\.gguf bytes=\d+ sha256=[0-9a-f]{64}",
    r"TRAINING COMPLETE",
]

Attempts = Callable[..., list[dict[str, Any]]]


def test_every_line_of_the_log_is_one_of_the_contracts(finished: Path) -> None:
    text = (finished / "first-run.log").read_bytes().decode()
    lines = text.splitlines()
    for line in lines:
        assert any(re.fullmatch(pattern, line) for pattern in GRAMMAR), line
    assert {pattern for pattern in GRAMMAR if any(re.fullmatch(pattern, line) for line in lines)} == set(GRAMMAR)
    assert "\r" not in text
    assert lines[-1] == "TRAINING COMPLETE"


def test_run_json_has_the_contracts_fields(finished: Path) -> None:
    run = json.loads((finished / "run.json").read_text(encoding="utf-8"))
    assert run["contract"] == 1
    assert run["steps"] == {"sft": 7, "dpo": 4}
    assert (run["rows"], run["rows_a_step"]) == ({"sft": 128, "dpo": 64}, {"sft": 64, "dpo": 32})
    assert (run["batch_size"], run["device_map"], run["world_size"]) == (32, "auto", 1)
    assert run["model"]["config"]["architecture"] == "Qwen2ForCausalLM"
    assert run["model"]["config"]["head_dim"] == 16
    assert run["lora"]["r"] == 64
    assert [run["data"][name]["rows"] for name in ("features", "scenarios", "pairs")] == [80, 48, 64]
    assert run["disk_needed_bytes"] > 0
    assert run["versions"]["torch"]
    assert run["settings"]["export"] == {"name": "small", "quantizations": ["Q8_0"]}


def test_what_is_exported_later_in_another_way_is_said_in_run_json(
    finished: Path, tmp_path: Path, attempt: Attempts
) -> None:
    workdir = tmp_path / "again"
    shutil.copytree(finished, workdir)
    with (workdir / "small.toml").open("a", encoding="utf-8") as file:
        file.write('quantizations = ["Q8_0", "F16"]\n')
    killed = workdir / "models/output/final/small.Q4_K_M.gguf.partial"  # an export in a third way did not end
    killed.touch()
    (end,) = attempt(workdir, [None])
    assert end["status"] == 0, end["log"]
    assert " step " not in end["log"]
    first, then = (json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in (finished, workdir))
    assert then["quantization"] == then["settings"]["export"]["quantizations"] == ["Q8_0", "F16"]
    assert not killed.exists()
    assert then["disk_needed_bytes"] > first["disk_needed_bytes"]
    assert {name: then[name] for name in ("data", "steps", "lora")} == {
        name: first[name] for name in ("data", "steps", "lora")
    }


def test_the_adapter_learned_and_the_base_did_not(finished: Path) -> None:
    from safetensors.torch import load_file

    sft = load_file(finished / "models/output/sft/checkpoint-7/adapter_model.safetensors")
    final = load_file(finished / "models/output/adapter/adapter_model.safetensors")
    names = [name for name in final if "lora_B" in name]
    assert len(names) == 14
    for name in names:
        assert math.isfinite(float(final[name].norm()))
        assert float(sft[name].norm()) > 0
        assert not final[name].equal(sft[name])


def test_checkpoints_are_kept_up_to_the_limit_and_are_whole(finished: Path) -> None:
    from forex import checkpoints

    for stage, steps in (("sft", [6, 7]), ("dpo", [2, 4])):
        found = checkpoints._named(finished / "models/output" / stage)
        assert sorted(checkpoint.step for checkpoint in found) == steps
        assert [checkpoints.defect(checkpoint) for checkpoint in found] == [None, None]


def test_another_runs_checkpoints_are_not_gone_on_from(new_workdir: Callable[[], Path], attempt: Attempts) -> None:
    workdir = new_workdir()
    point = {"target": "forex.training:LogLines.on_log", "call": 3, "when": "before"}
    (dead,) = attempt(workdir, [point])
    assert dead["signal"] == 9
    data = workdir / "data/forex_integrated/real_dpo_pairs.jsonl"
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    data.write_text("".join(reversed(lines)), encoding="utf-8")
    (end,) = attempt(workdir, [None])
    assert end["status"] == 1
    assert "TRAINING FAILED: models/output holds a run with another data; move models/output" in end["log"]


def test_a_second_run_at_the_same_time_is_refused(finished: Path, attempt: Attempts) -> None:
    from filelock import FileLock

    with FileLock(finished / "models/.lock"):
        (end,) = attempt(finished, [None])
    assert end["status"] == 1
    assert "TRAINING FAILED: another run is at work in this directory" in end["log"]


def test_a_stray_gguf_is_refused(finished: Path, attempt: Attempts) -> None:
    stray = finished / "models/output/final/older.Q8_0.gguf"
    stray.write_bytes(b"GGUF")
    try:
        (end,) = attempt(finished, [None])
    finally:
        stray.unlink()
    assert end["status"] == 1
    assert "older.Q8_0.gguf is not what this run will write" in end["log"]


def test_evaluation_is_reported_beside_majority_and_base(finished: Path, attempt: Attempts) -> None:
    (end,) = attempt(finished, [None], "--stage", "evaluate")
    assert end["status"] == 0, end["log"]
    report = json.loads((finished / "evaluation.json").read_text(encoding="utf-8"))
    assert report["direction"]["rows"] == 12
    assert report["trade"]["rows"] == 8
    for kind in report.values():
        for name in ("trained", "base", "majority"):
            assert 0 <= kind[name]["low"] <= kind[name]["accuracy"] <= kind[name]["high"] <= 1


@pytest.mark.parametrize(
    ("gpus", "free", "said"),
    [(2, 1 << 40, "device_map=None with 2 GPUs"), (1, 1000, r"more bytes of disk, 1,000 are free; use a larger disk")],
)
def test_what_cannot_end_well_is_refused_before_the_model_is_loaded(
    finished: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, free: int, said: str
) -> None:
    import torch
    from forex import config, dataset, pipeline
    from forex.errors import Refused

    def load_base_model(source: str, dtype: Any, attention: str) -> Any:
        raise AssertionError((source, dtype, attention))

    monkeypatch.chdir(finished)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    settings = config.load(Path("small.toml"), batch_size=32)
    run = pipeline.Pipeline(settings, load_base_model, dataset.prepare(settings))
    with pytest.raises(Refused, match=said):
        run._loaded()


def test_the_disk_that_is_judged_is_the_one_that_the_outputs_lie_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forex import config, dataset, pipeline
    from forex.errors import Refused

    other = tmp_path / "other disk"
    other.mkdir()
    workdir = tmp_path / "work"
    shutil.copytree(finished, workdir, ignore=shutil.ignore_patterns("output"))
    (workdir / "models").rename(other / "models")
    (workdir / "models").symlink_to(other / "models", target_is_directory=True)
    monkeypatch.chdir(workdir)
    monkeypatch.setattr(
        "shutil.disk_usage",
        lambda path: SimpleNamespace(free=1000 if Path(path).resolve().is_relative_to(other) else 1 << 40),
    )
    settings = config.load(Path("small.toml"), batch_size=32)
    run = pipeline.Pipeline(settings, lambda *_: pytest.fail("loaded"), dataset.prepare(settings))
    with pytest.raises(Refused, match="1,000 are free; use a larger disk"):
        run._loaded()


def test_a_preference_that_is_too_long_is_refused_before_the_first_step(
    new_workdir: Callable[[], Path], attempt: Attempts
) -> None:
    workdir = new_workdir()
    data = workdir / "data/forex_integrated/real_dpo_pairs.jsonl"
    first, *others = data.read_text(encoding="utf-8").splitlines()
    row = json.loads(first)
    row["prompt"] *= 20
    data.write_text("\n".join([*others, json.dumps(row)]) + "\n", encoding="utf-8")
    (end,) = attempt(workdir, [None])
    assert end["status"] == 1
    assert "[sft] step" not in end["log"]
    assert re.search(r"TRAINING FAILED: .*real_dpo_pairs\.jsonl, line 64: the prompt has \d+ tokens", end["log"])


def run_script(workdir: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    from forex import builder

    script = Path(builder.__file__).parents[1] / "train_deepseek_forex.py"
    return subprocess.run(
        [sys.executable, str(script), *options],
        cwd=workdir,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_script_refuses_a_launcher_and_a_broken_line_before_loading_anything(tmp_path: Path) -> None:
    launched = run_script(tmp_path, "--stage", "all", WORLD_SIZE="8")
    assert launched.returncode == 1
    assert launched.stdout.startswith("TRAINING FAILED: WORLD_SIZE=8")
    assert not list(tmp_path.iterdir())
    folder = tmp_path / "data/forex_integrated"
    folder.mkdir(parents=True)
    (folder / "real_feature_examples.jsonl").write_text('{"prompt": "p", "completion": "c"}\n{\n', encoding="utf-8")
    broken = run_script(tmp_path, "--stage", "prepare")
    assert broken.returncode == 1
    last = broken.stdout.strip().splitlines()[-1]
    assert "real_feature_examples.jsonl, line 2: not JSON" in last
    assert "Traceback" not in broken.stderr


def test_a_rehearsal_goes_through_every_stage(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(finished / "data")
    (tmp_path / "r.toml").write_text("[run]\nthreads = 1\ngradient_checkpointing = false\n", encoding="utf-8")
    done = run_script(tmp_path, "--smoke", "--config", "r.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[sft] RESUME from models/output/sft/checkpoint-1 at step 1" in done.stdout
    assert done.stdout.strip().splitlines()[-1].startswith("[smoke] COMPLETE: 2 + 2 steps, resumed, exported, verified")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "r.toml"]
