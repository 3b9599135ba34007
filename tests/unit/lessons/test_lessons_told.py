"""What an outcome says of a lesson, how a refusal cites it, and the page that shows them all."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import lessons as command
from harness.cli.main import app
from harness.core.errors import BadInput, MissingExtra
from harness.lessons import trying, verdicts
from harness.lessons.table import BY_NAME, LESSONS, forbidding, named
from harness.lessons.verdicts import LessonStanding, LessonVerdict, Tried
from harness.static import launchers

ROOT = Path(__file__).resolve().parents[3]
DDP, FROZEN = BY_NAME["torchrun-ddp-lora"], BY_NAME["adapter-loaded-frozen"]
NO_GRAD = "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn"


def test_every_lesson_has_its_experiment() -> None:
    tree = ast.parse((trying.PROGRAM / "experiments.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    tried = {node.name.replace("_", "-") for node in functions}
    assert tried == set(BY_NAME)
    assert len(BY_NAME) == len(LESSONS)


@pytest.mark.parametrize(
    ("name", "outcome", "standing", "seen"),
    [
        ("adapter-loaded-frozen", {"ended": "raised", "said": NO_GRAD}, LessonStanding.BROKEN, "element 0 of tensors"),
        (
            "device-map-auto-under-launcher",
            {
                "ended": "raised",
                "said": "ValueError: You can't train a model that has been loaded with `device_map='auto'` in any"
                " distributed mode. Please rerun your script",
            },
            LessonStanding.BROKEN,
            "in any distributed mode.",
        ),
        ("adapter-loaded-frozen", {"ended": "worked", "said": ""}, LessonStanding.WORKS, ""),
        ("fsdp-through-trainer", {"ended": "differs", "said": "it is DDP"}, LessonStanding.OTHER, "it is DDP"),
        ("deepspeed-zero-trl", {"ended": "unable", "said": "not installed"}, LessonStanding.UNTRIED, "not installed"),
        # A renamed option, an import that fails: nothing is learnt of the lesson.
        (
            "adapter-loaded-frozen",
            {"ended": "raised", "said": "TypeError: SFTConfig.__init__() got an unexpected keyword"},
            LessonStanding.UNTRIED,
            "in other words than the lesson's: TypeError",
        ),
        # A lesson that claims silence is not confirmed by a noise.
        (
            "resume-without-optimizer",
            {"ended": "raised", "said": "FileNotFoundError"},
            LessonStanding.UNTRIED,
            "FileNot",
        ),
        ("one-process-device-map-auto", {"ended": "raised", "said": "x"}, LessonStanding.UNTRIED, "other words"),
        ("torchrun-ddp-lora", {}, LessonStanding.UNTRIED, ""),
        ("torchrun-ddp-lora", {"ended": "passed", "said": "?"}, LessonStanding.UNTRIED, "?"),
    ],
)
def test_an_outcome_becomes_a_verdict(name: str, outcome: dict[str, Any], standing: LessonStanding, seen: str) -> None:
    verdict = verdicts.judge(BY_NAME[name], outcome)
    assert verdict.standing is standing
    assert seen in verdict.seen


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ("run.sh:3: torchrun", "torchrun-ddp-lora"),
        ("package.run: python -m torch.distributed.run", "torchrun-ddp-lora"),
        ("train.py:9: calls torch.distributed.init_process_group", "torchrun-ddp-lora"),
        ("WORLD_SIZE=8", "torchrun-ddp-lora"),
        ("mpirun", "torchrun-ddp-lora"),
        ("accelerate launch", "accelerate-launch-lora"),
        ("python -m accelerate.commands.launch", "accelerate-launch-lora"),
        ("a.yaml:2: distributed_type: MULTI_GPU", "accelerate-launch-lora"),
        ("train.py:1: imports deepspeed", "deepspeed-zero-trl"),
        ("train.py:1: sets ACCELERATE_USE_DEEPSPEED", "deepspeed-zero-trl"),
        ("ds.json:4: zero_optimization: a block", "deepspeed-zero-trl"),
        ("train.py:1: sets ACCELERATE_USE_FSDP", "fsdp-through-trainer"),
        ("train.py:1: calls fully_shard", "fsdp-through-trainer"),
        ("train.py:7: device_map=None, expected auto", "device-map-none-several-gpus"),
        ("t.py:1: use_reentrant=True with ddp_* options: DDP stops", "ddp-reentrant-checkpointing"),
        ("t.py:1: fp16=True with bf16=True: transformers refuses it", None),
    ],
)
def test_what_is_refused_names_its_lesson(found: str, name: str | None) -> None:
    lesson = forbidding(found)
    assert (lesson and lesson.name) == name


def test_a_refusal_cites_each_lesson_once_with_its_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        DDP.name: LessonVerdict(LessonStanding.WORKS, ""),
        FROZEN.name: LessonVerdict(LessonStanding.BROKEN, "no grad"),
    }
    tried = Tried("2026-11-28", "on the CPU alone", {"torch": "2.13.0", "peft": "0.21.2", "python": "3.11"}, told)
    monkeypatch.setattr(verdicts, "latest", lambda: tried)
    assert verdicts.behind("a.sh:1: torchrun", "b.sh:2: torchrun", "fp16=True with bf16=True") == (
        " [lesson torchrun-ddp-lora, works now on 2026-11-28 with torch 2.13.0, peft 0.21.2, on the CPU alone]"
    )
    assert verdicts.behind("deepspeed") == " [lesson deepspeed-zero-trl: not tried yet]"
    assert verdicts.behind("PeftModel.from_pretrained without is_trainable=True before a Trainer").endswith("no grad]")
    monkeypatch.setattr(verdicts, "latest", lambda: None)
    assert verdicts.behind("torchrun") == " [lesson torchrun-ddp-lora: not tried yet]"


def test_verdicts_come_back_from_their_file_as_they_were() -> None:
    versions = {"torch": "2.13.0", "deepspeed": "0.19.8"}
    tried = Tried("2026-11-28", "on 8 GPUs", versions, {DDP.name: LessonVerdict(LessonStanding.WORKS, "")})
    written = verdicts.to_json(tried)
    assert verdicts.from_json(written) == tried
    assert not [*launchers.in_configuration(written.decode())], "preflight would refuse the package that carries it"


@pytest.mark.parametrize("data", [b"", b"[]", b'{"verdicts": {"torchrun-ddp-lora": 3}}', b'{"verdicts": []}', b"\xff"])
def test_another_file_is_no_file_of_lessons(data: bytes) -> None:
    with pytest.raises(BadInput, match="no file of lessons"):
        verdicts.from_json(data)


def test_a_program_that_says_nothing_of_a_lesson_leaves_it_untried() -> None:
    lines = '{"versions": {"torch": "2"}, "gpus": 8}\n{"lesson": "torchrun-ddp-lora", "ended": "worked", "said": ""}\n'
    names = ["torchrun-ddp-lora", "fsdp2-lora"]
    tried = trying.attempt(names, lambda _: (137, f"a warning\n{lines}[3]\nKilled"), day="2026-11-28", place="a box,")
    assert [one.standing for one in tried.verdicts.values()] == [LessonStanding.WORKS, LessonStanding.UNTRIED]
    assert "ended before it (exit status 137)" in tried.verdicts["fsdp2-lora"].seen
    assert tried.place == "a box, on 8 GPUs"
    with pytest.raises(BadInput, match=r"did not begin.*No module named torch"):
        trying.attempt(names, lambda _: (1, "No module named torch"), day="2026-11-28")


def test_the_page_shows_the_recorded_verdicts_on_every_lesson() -> None:
    tried = verdicts.latest()
    assert tried is not None
    assert set(tried.verdicts) == set(BY_NAME)
    page = (ROOT / "docs" / "lessons.md").read_text(encoding="utf-8")
    assert page == verdicts.page(tried), "harness lessons --latest --write docs/lessons.md"
    assert all(f"`{name}`" in page for name in BY_NAME)


def test_the_command_says_what_is_recorded_without_any_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "here", None)
    shown = CliRunner().invoke(app, ["lessons", "--latest"])
    assert shown.exit_code == 0, shown.output
    assert all(f"`{name}`" in shown.output for name in BY_NAME)


def test_without_the_libraries_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra) as refused:
        command.lessons([])
    assert refused.value.remedy == "pip install 'gold-standard-harness[training]'"


def test_an_unknown_lesson_is_refused_with_those_there_are() -> None:
    assert named([]) == [*BY_NAME]
    with pytest.raises(BadInput, match="no lesson is named ddp") as refused:
        named(["ddp", DDP.name])
    assert DDP.name in str(refused.value.remedy)


def test_the_page_is_what_the_command_writes(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["lessons", "--latest", "--write", str(tmp_path / "lessons.md")])
    assert shown.exit_code == 0, shown.output
    assert (tmp_path / "lessons.md").read_bytes() == (ROOT / "docs" / "lessons.md").read_bytes()
