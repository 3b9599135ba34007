"""Every question is declared once, implemented once on the box, and answered alike with and without Python."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.core import answers, questions
from harness.core.answers import Disk
from harness.core.canonical import Json
from harness.core.questions import Question
from harness.remote.probe import posix_fallback, program
from harness.remote.probe.typed import typed
from tests.support.local_box import LocalBox, tools_of
from tests.support.model_files import TINY, write_gguf

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the box is Linux")

DECLARED = [
    kind
    for kind in vars(questions).values()
    if isinstance(kind, type) and issubclass(kind, Question) and kind is not Question
]
ASKED: tuple[Question[Any], ...] = (
    questions.Glob("sft/*"),
    questions.DigestOf("log"),
    questions.DigestOf("none"),
    questions.TreeOf("sft", digests=("checkpoint-2/trainer_state.json",)),
    questions.ReadText("log", limit=10),
    questions.TailOf("log", lines=2, limit=1000),
    questions.TailOf("log", lines=20, limit=7),
    questions.TailOf("none", lines=2, limit=1000),
    questions.TailOf("empty", lines=2, limit=1000),
    questions.LinesFrom("log", start=0, limit=1000),
    questions.LinesFrom("log", start=-20, limit=1000),
    questions.Grep("log", "loss", last=2),
    questions.ExcerptOf("log", "loss", "grad", limit=1000),
    questions.DiskOf("~"),
    questions.DiskOf("none/at/all"),
    questions.DiskOf("/none"),
    questions.Now(),
    questions.Command(("echo", "said")),
    questions.PackagesOf(sys.executable, ("pip",)),
    questions.GpuList(),
    questions.TmuxSessions(),
    questions.ProcessesUnder("sft"),
    questions.SessionOf("sft"),
    questions.CheckpointsIn("sft"),
    questions.GgufOf("model.gguf"),
    questions.WeightsOf("merged"),
    questions.WeightsOf("none"),
)
"""Each question at least once, of the directory that ``home`` is."""

ODD: tuple[Question[Any], ...] = tuple(
    question
    for path in ("log/below", "sft", "loop")
    for question in (questions.DigestOf(path), questions.TailOf(path, lines=2, limit=1000))
)
"""Questions about what is no file and not absent either."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with something to find for every question."""
    home = tmp_path / "home"
    (home / "sft" / "checkpoint-2").mkdir(parents=True)
    (home / "sft" / "checkpoint-2" / "trainer_state.json").write_text('{"global_step": 2}')
    (home / "log").write_text("".join(f"step {n} loss=0.5\n" for n in range(9)) + "half a line, ünd")
    (home / "empty").touch()
    (home / "loop").symlink_to("loop")
    os.utime(home / "log", (1_700_000_000, 1_700_000_000))
    os.utime(home / "empty", (1_700_000_000, 1_700_000_000))
    write_gguf(home / "model.gguf", TINY)
    (home / "merged").mkdir()
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (home / "merged" / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return home


@pytest.fixture(params=["sh", "busybox"])
def without_python(request: pytest.FixtureRequest, tmp_path: Path, home: Path) -> LocalBox:
    """A box that has no Python, but the tools of this system, or BusyBox's."""
    if request.param == "sh":
        return LocalBox(home, python=False)
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("BusyBox is not installed")
    (tmp_path / "tools").mkdir()
    return LocalBox(home, tools_of(busybox, tmp_path / "tools"), python=False)


def test_every_question_has_one_implementation_on_the_box_with_the_same_arguments() -> None:
    functions: dict[str, Any] = importlib.import_module(program.PROBE[-1]).OPERATIONS
    assert sorted(functions) == sorted(kind.op for kind in DECLARED)
    arguments = {op: list(inspect.signature(function).parameters) for op, function in functions.items()}
    assert arguments == {kind.op: [field.name for field in dataclasses.fields(kind)] for kind in DECLARED}


def test_every_question_is_answered_without_python_or_declared_as_not_answerable() -> None:
    assert set(posix_fallback.TOOLS) == set(DECLARED)


def test_every_question_says_how_its_answer_is_typed() -> None:
    assert {type(question) for question in ASKED} == set(DECLARED)
    for kind in DECLARED:
        assert typed({}, kind.answer_type()).problem is not None


@pytest.mark.parametrize("question", ASKED, ids=repr)
def test_a_question_is_answered_with_its_type(home: Path, question: Question[Any]) -> None:
    answer = LocalBox(home).ask(question).get()
    expected = question.answer_type()
    assert isinstance(answer, getattr(expected, "__origin__", expected))
    assert answer or isinstance(answer, tuple)


@pytest.mark.parametrize("question", ASKED, ids=repr)
def test_a_box_without_python_answers_the_same_or_says_that_it_cannot(
    home: Path, without_python: LocalBox, question: Question[Any]
) -> None:
    told = without_python.ask(question)
    if posix_fallback.TOOLS[type(question)] is None:
        assert told.problem == f"{question.op} needs python3 on the box, and there is none"
        return
    here, there = LocalBox(home).ask(question).get(), told.get()
    if isinstance(here, Disk):
        assert there.total == pytest.approx(here.total, abs=1024)
        assert there.free == pytest.approx(here.free, abs=1 << 30)  # others write to it meanwhile
    elif isinstance(question, questions.Now):
        assert there.time == pytest.approx(here.time, abs=60)
    else:
        assert there == here


@pytest.mark.parametrize("question", ODD, ids=repr)
def test_what_cannot_be_looked_at_is_a_problem_with_python_and_without(
    home: Path, without_python: LocalBox, question: Question[Any]
) -> None:
    said = ("Not a directory", "Is a directory", "Too many levels")
    for box in (LocalBox(home), without_python):
        problem = str(box.ask(question).problem)
        assert any(text in problem for text in said), problem


@pytest.mark.parametrize(
    "told",
    [
        {"exists": False, "bytes": 0, "sha256": "zz"},
        {"exists": False, "bytes": -5},
        {"exists": True, "bytes": 5, "sha256": "zz"},
        {"exists": True, "bytes": -1, "sha256": "ab" * 32},
        {"exists": True, "bytes": 5},
    ],
)
def test_a_digest_is_one_or_there_is_no_file(told: Json) -> None:
    assert typed(told, answers.Digest).problem is not None
