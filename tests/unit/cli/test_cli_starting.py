"""``harness init --package KIND``: a package and a job file that load, fit each other, and replace nothing."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts.dataset import judging
from harness.cli import starting
from harness.core import shipped
from harness.core.verdict import Verdict
from harness.gates import plan
from harness.job import estimate, image
from harness.job.load import load_job, parse_job
from harness.job.model import Job
from harness.log.grammar import SFT
from harness.static import device_maps, launchers, options, script, sources
from tests.support.typing_commands import typing

Typed = Callable[..., tuple[int, str, str]]
KINDS = ("trl", "unsloth", "axolotl", "own")
FLAGS = [(kind, False) for kind in KINDS] + [("trl", True), ("own", True)]
MISTRAL = {
    "architectures": ["MistralForCausalLM"],
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 32768,
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and nobody at a terminal."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return folder


@pytest.fixture
def typed(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types the command in that folder; exit code, standard output, standard error."""
    del here
    return partial(typing(monkeypatch, capsys), "init")


def written(typed: Typed, here: Path, kind: str, *words: str) -> Job:
    code, _, err = typed("--package", kind, "--name", "mine", "-y", *words)
    assert code == 0, err
    return load_job(here / "mine.toml")


@pytest.mark.parametrize(("kind", "embedded"), FLAGS)
def test_the_package_and_its_job_file_fit_each_other(here: Path, typed: Typed, kind: str, embedded: bool) -> None:
    job = written(typed, here, kind, *["--embedded"] * embedded)
    assert (job.provider.kind == "emulated") is embedded
    assert (job.package.source, job.artifact.kind, job.trainers) == (here / "mine", "adapter", ("sft",))
    wanted = {job.package.entry, job.package.requirements, *job.package.documents, *job.data.paths.values()}
    there = {path.relative_to(here / "mine").as_posix() for path in (here / "mine").rglob("*") if path.is_file()}
    assert wanted | {"harness_contract.py"} <= there
    told = sources.read(here / "mine", sorted(there))
    assert not told.broken
    reached = told.reachable(job.package.entry)
    stated = tuple(one for text in reached.values() for one in script.batch_size_settings(text))
    assert script.one_batch_size(stated) == job.training.batch_size
    assert not launchers.find(told.whole(), {"training.command": job.training.command})
    assert not options.find(told.whole(), job.package.entry)
    assert set(options.save_steps(told, job.package.entry).values()) <= {job.training.checkpoint_every}
    maps = [one.value for text in reached.values() for one in device_maps.settings(text)]
    assert all(value is not None and job.maps_devices(value) for value in maps)
    assert estimate.artifact_bytes(job) > job.artifact.floor_bytes
    assert estimate.cost(job).total <= job.limits.budget_usd
    assert estimate.disk(job).needed < estimate.disk(job).size
    assert not image.too_old(job.machine.image, job.package.needs)


@pytest.mark.parametrize(("kind", "embedded"), FLAGS)
def test_the_settings_of_the_script_are_those_of_the_job(here: Path, typed: Typed, kind: str, embedded: bool) -> None:
    job = written(typed, here, kind, *["--embedded"] * embedded)
    if kind == "axolotl":
        text = (here / "mine" / "config.yml").read_text(encoding="utf-8")
        told: dict[str, Any] = dict(re.findall(r"(?m)^(\w+): *(\S+)", text))
        assert (told["base_model"], int(told["max_steps"])) == (job.model.base, job.training.steps[SFT])
        assert int(told["micro_batch_size"]) * int(told["gradient_accumulation_steps"]) == job.training.batch_size
        assert int(told["save_steps"]) == job.training.checkpoint_every
    else:
        name = "tiny.json" if embedded else "settings.json"
        told = json.loads((here / "mine" / name).read_text(encoding="utf-8"))
        assert (told["base"], told["steps"]) == (job.model.base, job.training.steps[SFT])
        assert told["checkpoint_every"] == job.training.checkpoint_every
        assert told["dtype"] == job.model.dtype
        assert job.training.batch_size % told["rows_at_once"] == 0
    assert (int(told["lora_r"]), int(told["lora_alpha"])) == (job.model.lora_r, job.model.lora_alpha)
    if embedded:
        tree = ast.parse((here / "mine" / "tiny_model.py").read_text(encoding="utf-8"))
        (shape,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
        assert {name: getattr(job.model, name) for name in shape} == shape


def test_the_plan_leaves_out_what_does_not_apply_and_says_why(here: Path, typed: Typed) -> None:
    job = written(typed, here, "trl")
    left = {
        str(check): why
        for stage in ("preflight", "launch", "training")
        for check, why in plan.left_out(stage, job).items()
    }
    assert left["v2_forex_integration_logged"] == "the job states no proof line"
    assert left["preferences_are_learned"] == "no dpo is trained"
    assert "dataset_rows_parse" not in left


@pytest.mark.parametrize("kind", ["unsloth", "axolotl"])
def test_what_needs_a_gpu_is_not_rehearsed(here: Path, typed: Typed, kind: str) -> None:
    code, _, err = typed("--package", kind, "--embedded", "-y")
    assert code == 2
    assert f"{kind} trains on a GPU" in err
    assert "harness init --package trl --embedded" in " ".join(err.split())
    assert not list(here.iterdir())
    assert not written(typed, here, kind).gates.smoke_run


def test_nothing_that_is_there_is_replaced(here: Path, typed: Typed) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "train.py").write_text("mine")
    for words in ([], ["--force"]):
        code, _, err = typed("--package", "trl", "--name", "mine", "-y", *words)
        assert code == 2
        assert "mine holds train.py already, and nothing is overwritten" in err
    assert [path.name for path in (here / "mine").iterdir()] == ["train.py"]
    assert not (here / "mine.toml").exists()
    (here / "other.toml").write_text("mine")
    assert typed("--package", "trl", "--name", "other", "-y")[0] == 2
    assert not (here / "other").exists()


def test_rows_that_are_there_are_kept_and_counted(here: Path, typed: Typed) -> None:
    (here / "mine" / "data").mkdir(parents=True)
    rows = here / "mine" / "data" / "train.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n\n{"prompt": "c", "completion": "d"}\n')
    job = written(typed, here, "own")
    assert job.data.counts == {"examples": 2}
    assert len(rows.read_text().splitlines()) == 3


def test_another_base_brings_its_name_and_its_shape_everywhere(here: Path, typed: Typed) -> None:
    (here / "base").mkdir()
    (here / "base" / "config.json").write_text(json.dumps(MISTRAL))
    job = written(typed, here, "trl", "--model", "base", "--machine", "RTX 3090, 0.5, 4")
    assert (job.model.architecture, job.model.hidden_size, job.model.base) == ("MistralForCausalLM", 4096, "base")
    assert (job.machine.gpu, job.machine.gpus, job.limits.budget_usd) == ("RTX_3090", 1, 4.0)
    assert json.loads((here / "mine" / "settings.json").read_text())["base"] == "base"
    assert 0.2 < job.artifact.floor_bytes / estimate.artifact_bytes(job) < 0.5


def test_the_rows_to_begin_with_say_that_a_program_made_them_and_are_sound() -> None:
    file = shipped.folder("examples") / "starts" / "shared" / "train.jsonl"
    assert all("built_by" in json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
    assert {finding.verdict for finding in judging.judge(file)} == {Verdict.PASS}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--package", "trl", "--data", "rows"], "it goes without --data and --quantization"),
        (["--package", "own", "--quantization", "Q8_0"], "it goes without"),
        (["--profile", "any-training"], "harness init --package trl|unsloth|axolotl|own"),
    ],
)
def test_what_does_not_go_together_is_refused(here: Path, typed: Typed, words: list[str], said: str) -> None:
    code, _, err = typed(*words, "-y")
    assert code == 2
    assert said in " ".join(err.split())
    assert not list(here.iterdir())


def test_a_folder_of_that_name_is_given_by_its_path(here: Path, typed: Typed) -> None:
    (here / "trl").mkdir()
    code, _, err = typed("--package", "./trl", "-y")
    assert code == 0, err
    assert load_job(here / "myjob.toml").package.source == here / "trl"


MISTRAL_SFT = """
name = "mistral"
profile = "any-training"

[provider]
kind = "vast"

[machine]
gpu = "H100_SXM"
max_usd_per_hour = 3.0

[package]
source = "mistral"

[data]
files.chats = { file = "chats.jsonl", rows = 900, trainer = "sft", rows_are = "conversations" }
files.books = { file = "books.jsonl", rows = 70, trainer = "sft", rows_are = "texts" }

[model]
base = "mistralai/Mistral-7B-v0.3"
architecture = "MistralForCausalLM"
hidden_size = 4096
num_hidden_layers = 32
num_attention_heads = 32
num_key_value_heads = 8
intermediate_size = 14336
vocab_size = 32768
lora_r = 16
lora_alpha = 32

[training]
steps = { sft = 300 }

[artifact]
floor = 60_000_000

[limits]
budget_usd = 9.0
s_per_step = { sft = 2.5 }
"""


def test_an_sft_of_mistral_with_an_adapter_is_stated_in_thirty_lines(tmp_path: Path) -> None:
    job = parse_job(MISTRAL_SFT, tmp_path / "mistral.toml")
    assert job.trainers == ("sft",)
    assert job.data.rows == {"sft": 970}
    assert job.artifact.remote_dir == "models/output/adapter"
    assert estimate.artifact_bytes(job) > job.artifact.floor_bytes
    assert len([line for line in MISTRAL_SFT.splitlines() if "=" in line]) < 30
    assert tomllib.loads(MISTRAL_SFT)["profile"] == starting.PROFILE
