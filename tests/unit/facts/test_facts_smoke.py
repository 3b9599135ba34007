"""A smoke run's own decisions, the package played by a function: what it tells of, takes away, and runs again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import adapter, merged
from harness.artifacts.expectation import Expectation
from harness.core import process
from harness.core.errors import BadInput, MissingExtra
from harness.core.finding import Finding
from harness.core.observed import CouldNotLook
from harness.core.process import Finished
from harness.core.verdict import Verdict
from harness.facts import preflight_smoke
from harness.facts.preflight_smoke import Resolved, Smoke
from harness.job.model import Job
from tests.support.checkpoint_files import tensors, write_checkpoint
from tests.support.facts import sound_job
from tests.support.model_files import TINY, write_gguf

FINAL, FOLDER = "models/output/final", "models/output/folder"
WENT_ON = "[dpo] RESUME from models/output/dpo/checkpoint-1 at step 1\n"


@dataclass(slots=True)
class Package:
    """A package whose runs are given: each acts in the scratch folder and says something."""

    acts: list[Callable[[Path], str | Finished]]
    ran: list[Path] = field(default_factory=list)
    memory: list[int | None] = field(default_factory=list)

    def run(self, argv: Sequence[str], *, cwd: Path, timeout: float, memory: int | None) -> Finished:
        assert list(argv) == ["python3", "tiny.py"]
        assert timeout == 60
        self.ran.append(cwd)
        self.memory.append(memory)
        said = self.acts[min(len(self.ran), len(self.acts)) - 1](cwd)
        return said if isinstance(said, Finished) else Finished(0, said)


def smoke(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *acts: Callable[[Path], str | Finished], **tables: Any
) -> tuple[Smoke, Package]:
    package, job = Package(list(acts)), a_job(**tables)
    monkeypatch.setattr(process, "run", package.run)
    source = folder / "package"
    source.mkdir()
    (source / "train.py").touch()
    return preflight_smoke.run(job, source, folder / "scratch"), package


def a_job(**tables: Any) -> Job:
    gates = {"smoke_command": ["python3", "tiny.py"], "smoke_timeout_s": 60, "smoke_run": True, "smoke_memory_gb": 2.5}
    return sound_job(**{**tables, "gates": {**gates, **tables.get("gates", {})}})


def trains(*made: str, steps: Sequence[int] = (1, 2), says: str = "", data: bytes = b"") -> Callable[[Path], str]:
    """A run that leaves checkpoints and model files."""

    def act(scratch: Path) -> str:
        for step in steps:
            if not (scratch / f"models/output/dpo/checkpoint-{step}").exists():
                write_checkpoint(scratch / "models/output/dpo", step)
        for name in made:
            path = scratch / FINAL / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".gguf"):
                write_gguf(path, TINY)
            path.write_bytes((path.read_bytes() if path.exists() else b"") + data)
        config = {"model": {"name": "models/base", "config": TINY}}
        (scratch / "run.json").write_text(json.dumps(config))
        return says

    return act


def test_a_package_that_goes_on_to_the_same_file_has_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []

    def again(scratch: Path) -> str:
        left = ("models/output/dpo/checkpoint-2", f"{FINAL}/m.gguf", "models/output/dpo/checkpoint-1", "train.py")
        there.extend((scratch / name).exists() for name in left)
        return trains("m.gguf", says=WENT_ON)(scratch)

    told, package = smoke(tmp_path, monkeypatch, trains("m.gguf"), again)
    assert (told.gguf, told.gguf_problem, told.resume_problem) == ("m.gguf", None, None)
    assert told.gguf_bytes == (tmp_path / "scratch" / FINAL / "m.gguf").stat().st_size
    assert there == [False, False, True, True], "the last stage's death takes its checkpoint and the model away"
    assert package.ran == [tmp_path / "scratch"] * 2
    assert package.memory == [2_500_000_000] * 2


@pytest.mark.parametrize(
    ("again", "problem"),
    [
        pytest.param(lambda _: Finished(3, "Traceback"), "it ended with status 3 ", id="it fails"),
        pytest.param(lambda _: Finished(0, WENT_ON, timed_out=True), "it ended with status 0 ", id="it hangs"),
        pytest.param(trains("m.gguf"), "did not say that it goes on at step 1 ", id="it begins anew"),
        pytest.param(
            trains("m.gguf", says=WENT_ON.replace("step 1", "step 2")), "goes on at step 1 ", id="from another step"
        ),
        pytest.param(trains(says=WENT_ON), "it made another model file", id="it makes none"),
        pytest.param(trains("m.gguf", says=WENT_ON, data=b"?"), "it made another model file", id="it makes another"),
    ],
)
def test_a_package_that_does_not_go_on_after_a_death_is_told_how(
    again: Callable[[Path], str | Finished], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, _ = smoke(tmp_path, monkeypatch, trains("m.gguf"), again)
    assert told.gguf_problem is None
    assert (told.resume_problem or "").startswith("run again without checkpoint-2, ")
    assert problem in (told.resume_problem or "")


@pytest.mark.parametrize("steps", [(), (1,)])
def test_one_checkpoint_is_none_to_go_on_from(
    steps: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, package = smoke(tmp_path, monkeypatch, trains("m.gguf", steps=steps))
    assert (told.resume_problem or "").startswith(
        "there are no two checkpoints in models/output/sft or models/output/dpo, so there is none to go on from"
    )
    assert len(package.ran) == 1


@pytest.mark.parametrize("made", [(), ("a.gguf", "b.gguf")])
def test_a_run_makes_one_model_file(made: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, package = smoke(tmp_path, monkeypatch, trains(*made))
    assert (told.gguf_problem or "").startswith(f"{FINAL} holds {len(made)} model files, expected one ")
    assert (told.gguf, told.resume_problem, len(package.ran)) == (None, "not tried", 1)


@pytest.mark.parametrize(("status", "timed_out"), [(1, False), (0, True), (-9, True)])
def test_a_run_that_did_not_end_well_made_nothing(
    status: int, timed_out: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(scratch: Path) -> Finished:
        trains("m.gguf")(scratch)
        return Finished(status, "the last words", timed_out)

    told, package = smoke(tmp_path, monkeypatch, act)
    assert (told.status, told.timed_out, told.tail) == (status, timed_out, "the last words")
    assert (told.gguf, told.gguf_bytes, told.gguf_problem, told.resume_problem) == (
        None,
        0,
        "it was not made",
        "not tried",
    )
    assert len(package.ran) == 1


def _folder(scratch: Path) -> str:
    """A run that leaves a model that is a folder."""
    (scratch / FOLDER).mkdir(exist_ok=True, parents=True)
    tensors(scratch / FOLDER / "a.safetensors", ("a", "U8", [4], b"four"))
    (scratch / FOLDER / "trainer_log.json").write_text(f"{len(list(scratch.rglob('*')))}")
    return trains(says=WENT_ON)(scratch)


@pytest.mark.parametrize("kind", ["merged", "adapter"])
def test_a_model_that_is_a_folder_is_tried_like_a_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[tuple[Path, Any]] = []

    def judge(made: Path, known: Any) -> tuple[Finding, ...]:
        judged.append((made, known))
        return ()

    for judges in (merged, adapter):
        monkeypatch.setattr(judges, "judge", judge)
    tables = {"artifact": {"kind": kind, "remote_dir": FOLDER, "floor": 1}}
    told, _ = smoke(tmp_path, monkeypatch, _folder, **tables)
    assert (told.gguf, told.gguf_problem, told.resume_problem) == ("folder", None, None)
    assert told.gguf_bytes > (tmp_path / "scratch" / FOLDER / "a.safetensors").stat().st_size
    known = TINY if kind == "adapter" else Expectation(config=TINY)
    assert judged == [(tmp_path / "scratch" / FOLDER, known)]
    (tmp_path / "none").mkdir()
    told, _ = smoke(tmp_path / "none", monkeypatch, trains(), **tables)
    assert (told.gguf_problem or "").startswith(f"there is no {FOLDER} ")


@pytest.mark.parametrize(
    ("verdict", "predict", "held"),
    [
        (Verdict.PASS, True, False),
        (Verdict.FAIL, True, True),
        (Verdict.FAIL, False, True),
        (Verdict.UNKNOWN, True, True),
        (Verdict.UNKNOWN, False, False),
    ],
)
def test_what_is_wrong_with_the_tiny_model_is_told_and_what_is_unknown_where_it_was_to_be_predicted(
    *, verdict: Verdict, predict: bool, held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = (Finding("a", "it is fine", Verdict.PASS, "1", "1"), Finding("b", "it is whole", verdict, "three", "four"))
    monkeypatch.setattr(merged, "judge", lambda *_: found)
    artifact = {"kind": "merged", "remote_dir": FOLDER, "floor": 1, "predict": predict}
    told, package = smoke(tmp_path, monkeypatch, _folder, artifact=artifact)
    assert told.gguf_problem == ("folder: it is whole: saw three, expected four" if held else None)
    assert (told.resume_problem, len(package.ran)) == (("not tried", 1) if held else (None, 2))


def test_files_of_the_plan_are_added_and_what_is_too_large_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight_smoke, "_LARGE", 4)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "weights.bin").write_bytes(b"12345")
    (tmp_path / "p" / "small.bin").write_bytes(b"1234")
    package = Package([lambda _: Finished(1, "")])
    monkeypatch.setattr(process, "run", package.run)
    job = a_job(gates={"smoke_files": {"configs/smoke.toml": "steps = 2 # é"}})
    preflight_smoke.run(job, tmp_path / "p", tmp_path / "scratch")
    assert (tmp_path / "scratch/configs/smoke.toml").read_bytes() == "steps = 2 # é".encode()
    assert sorted(path.name for path in (tmp_path / "scratch").iterdir()) == ["configs", "small.bin"]
    gates = job.gates.model_copy(update={"smoke_files": {"../outside": ""}})
    with pytest.raises(BadInput, match=r"^gates\.smoke_files: not a safe relative path: '\.\./outside'"):
        preflight_smoke.run(job.model_copy(update={"gates": gates}), tmp_path / "p", tmp_path / "another")


@pytest.mark.parametrize(
    ("status", "tail", "beside", "lacks"),
    [
        (1, "ModuleNotFoundError: No module named 'trl.trainer'", None, True),
        (1, "ModuleNotFoundError: No module named 'trl.trainer'", "trl.py", False),
        (0, "ModuleNotFoundError: No module named 'trl'", None, False),
        (1, "ImportError: cannot import name 'x'", None, False),
    ],
)
def test_only_a_module_that_is_not_the_packages_own_is_an_extra_that_lacks(
    *, status: int, tail: str, beside: str | None, lacks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(scratch: Path) -> Finished:
        if beside is not None:
            (scratch / beside).touch()
        return Finished(status, tail)

    if not lacks:
        assert smoke(tmp_path, monkeypatch, act)[0].status == status
        return
    with pytest.raises(MissingExtra, match=r"it imports trl\.trainer"):
        smoke(tmp_path, monkeypatch, act)


@pytest.mark.parametrize(
    ("gates", "why"),
    [({"smoke_run": False}, "does without a smoke run"), ({"smoke_command": []}, "gates.smoke_command is empty")],
)
def test_a_plan_without_a_smoke_run_has_none(gates: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(CouldNotLook, match=why):
        preflight_smoke.run(a_job(gates=gates), tmp_path, tmp_path / "scratch")


@pytest.mark.parametrize(
    ("name", "base", "resolved", "found"),
    [
        ("built", "made on the spot", True, True),
        ("built", "of/the-hub", True, False),
        ("built", "made on the spot", False, False),
        ("../built", "made on the spot", True, False),
        ("elsewhere", "made on the spot", True, False),
    ],
)
def test_a_tokenizer_that_the_package_built_is_taken_for_a_base_of_nowhere(
    name: str, base: str, resolved: bool, found: bool, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    for folder in (scratch / "built", tmp_path / "built"):
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").touch()
    told = Smoke(0, "", False, None, 0, None, None, Resolved(8, "auto", 1, 1, name) if resolved else None)
    built = preflight_smoke.built_tokenizer(a_job(model={"base": base}), told, scratch)
    assert built == (scratch / "built" / "tokenizer.json" if found else None)


def test_its_memory_is_told_in_words_where_it_was_bounded() -> None:
    told = Smoke(0, "", False, None, 0, None, None, None)
    assert told.memory.startswith("not bounded on this system")
    assert replace(told, memory_bytes=2_500_000_000).memory == "at most 2.50 GB"
