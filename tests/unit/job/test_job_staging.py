"""The staged package is a whole snapshot or none, whatever is in the source and whenever it is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.artifacts import digest
from harness.core import durable
from harness.core.errors import BadInput
from harness.job import staging
from harness.job.model import Job

BUILD = """
import pathlib, sys
data = pathlib.Path("data")
data.mkdir()
for name in "fsp":
    (data / f"{name}.jsonl").write_text(name + "\\n")
pathlib.Path("built").open("a").write("x")
pathlib.Path("__pycache__").mkdir()
pathlib.Path("__pycache__/x.pyc").write_bytes(b"x")
print("built with", sys.executable)
"""


def job(source: Path, **package: Any) -> Job:
    return Job.model_validate(
        {
            "name": "small",
            "provider": {"kind": "emulated"},
            "machine": {"gpu": "H100", "gpus": 8, "image": "x", "disk_gb": 150, "max_usd_per_hour": 16.0},
            "package": {"source": source, "remote_dir": "/w", "entry": "train.py", "documents": [], **package},
            "data": {
                "directory": "data",
                "features": 1,
                "scenarios": 1,
                "pairs": 1,
                "features_file": "f.jsonl",
                "scenarios_file": "s.jsonl",
                "pairs_file": "p.jsonl",
            },
            "model": {
                "base": "b",
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "intermediate_size": 128,
                "vocab_size": 2048,
            },
            "training": {"command": ["x"], "sft_steps": 1, "dpo_steps": 1},
            "artifact": {"floors": {"Q8_0": 1}},
            "limits": {"budget_usd": 1, "sft_s_per_step": 1, "dpo_s_per_step": 1},
        }
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "lib").mkdir(parents=True)
    (folder / "train.py").write_text("import lib\n")
    (folder / "lib" / "__init__.py").write_text("")
    (folder / "build.py").write_text(BUILD)
    return folder


def prepared(source: Path, *argv: str) -> Job:
    return job(source, prepare=list(argv) or ["python3", "build.py"])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_snapshot_holds_the_package_and_no_leavings(source: Path, tmp_path: Path) -> None:
    for name in (".git/HEAD", "lib/__pycache__/a.pyc", "models/output/final/old.gguf", "x.egg-info/PKG", ".venv/a"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    for name in ("training.log", "run.json", "MANIFEST.json"):
        (source / name).write_text("old")
    (source / "models" / "base").mkdir()
    (source / "models" / "base" / "config.json").write_text("{}")
    staged = staging.stage_package(prepared(source), tmp_path / "job")
    assert staged.path == tmp_path / "job" / "package"
    names = {"train.py", "lib/__init__.py", "build.py", "built", "models/base/config.json"}
    assert set(staged.manifest) == names | {"data/f.jsonl", "data/s.jsonl", "data/p.jsonl"}
    assert set(contents(staged.path)) == set(staged.manifest)
    assert all(digest.of_file(staged.path / name).sha256 == found for name, found in staged.manifest.items())
    assert not (source / "data").exists()


def test_the_manifest_names_every_file_by_posix_path_in_order(source: Path, tmp_path: Path) -> None:
    manifest = staging.stage_package(job(source), tmp_path / "job").manifest
    assert list(manifest) == ["build.py", "lib/__init__.py", "train.py"]
    assert manifest["train.py"] == digest.of_bytes(b"import lib\n")


@pytest.mark.skipif(sys.platform == "win32", reason="no such name is possible there")
def test_a_name_that_not_every_machine_can_have_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "lib" / "a:stream.py").touch()
    with pytest.raises(BadInput, match="not a safe relative path") as caught:
        staging.stage_package(job(source), tmp_path / "job")
    assert "Rename the file" in caught.value.remedy


def test_staging_again_changes_nothing(source: Path, tmp_path: Path) -> None:
    first = staging.stage_package(prepared(source), tmp_path / "job")
    before = {path: path.stat().st_mtime_ns for path in first.path.rglob("*")}
    assert staging.stage_package(prepared(source), tmp_path / "job") == first
    assert {path: path.stat().st_mtime_ns for path in first.path.rglob("*")} == before


def test_an_edited_source_is_staged_anew(source: Path, tmp_path: Path) -> None:
    first = staging.stage_package(prepared(source), tmp_path / "job")
    (source / "train.py").write_text("import lib  # mended\n")
    (source / "lib" / "__init__.py").unlink()
    second = staging.stage_package(prepared(source), tmp_path / "job")
    assert second.manifest["train.py"] != first.manifest["train.py"]
    assert "lib/__init__.py" not in contents(second.path)
    assert sorted(path.name for path in (tmp_path / "job").iterdir()) == ["package", "staged.json"]


def test_a_changed_snapshot_is_made_again(source: Path, tmp_path: Path) -> None:
    first = staging.stage_package(prepared(source), tmp_path / "job")
    (first.path / "train.py").write_text("something else")
    (first.path / "stale.py").write_text("something more")
    again = staging.stage_package(prepared(source), tmp_path / "job")
    assert again.manifest == first.manifest
    assert set(contents(again.path)) == set(first.manifest)


def test_the_users_own_data_is_taken_as_it_is(source: Path, tmp_path: Path) -> None:
    (source / "data").mkdir()
    for name in "fsp":
        (source / "data" / f"{name}.jsonl").write_text("mine")
    staged = staging.stage_package(prepared(source), tmp_path / "job")
    assert (staged.path / "data" / "f.jsonl").read_text() == "mine"
    assert "built" not in staged.manifest


def test_some_of_the_users_data_is_not_mixed_with_built_data(source: Path, tmp_path: Path) -> None:
    (source / "data").mkdir()
    (source / "data" / "f.jsonl").write_text("mine")
    with pytest.raises(BadInput, match=r"data/s.jsonl, data/p.jsonl missing"):
        staging.stage_package(prepared(source), tmp_path / "job")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; print('no rates here'); sys.exit(3)", "status 3: no rates here"),
        ("print('nothing to do')", "did not make data/f.jsonl"),
        ("import time; time.sleep(60)", "did not end within 1 s"),
        ("print('\\x1b[2Jgone'); raise SystemExit(1)", "status 1: gone"),
    ],
)
def test_a_preparation_that_fails_says_why_and_leaves_nothing(
    source: Path, tmp_path: Path, script: str, said: str
) -> None:
    (source / "build.py").write_text(script)
    with pytest.raises(BadInput, match=said):
        staging.stage_package(job(source, prepare=["python3", "build.py"], prepare_timeout_s=1), tmp_path / "job")
    assert list((tmp_path / "job").iterdir()) == []


def test_a_preparation_that_is_no_program(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot run no-such-program"):
        staging.stage_package(prepared(source, "no-such-program"), tmp_path / "job")


def test_without_a_preparation_missing_data_is_left_to_the_checks(source: Path, tmp_path: Path) -> None:
    assert "data/f.jsonl" not in staging.stage_package(job(source), tmp_path / "job").manifest


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_links_may_not_leave_the_package(source: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (source / "inside.py").symlink_to(source / "train.py")
    assert staging.stage_package(job(source), tmp_path / "job").manifest["inside.py"]
    assert not (tmp_path / "job" / "package" / "inside.py").is_symlink()
    (source / "outside.py").symlink_to(tmp_path / "secret")
    with pytest.raises(BadInput, match="outside the package"):
        staging.stage_package(job(source), tmp_path / "job")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_a_link_that_the_preparation_made_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "build.py").write_text(BUILD + "pathlib.Path('made').symlink_to('built')\n")
    with pytest.raises(BadInput, match="made made, a link"):
        staging.stage_package(prepared(source), tmp_path / "job")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
@pytest.mark.parametrize("target", ["..", ".", "lib", "nowhere"])
def test_links_to_folders_or_nothing_are_refused(source: Path, tmp_path: Path, target: str) -> None:
    (source / "link").symlink_to(target)
    with pytest.raises(BadInput, match="link"):
        staging.stage_package(job(source), tmp_path / "job")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX special files")
def test_special_files_are_refused(source: Path, tmp_path: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(BadInput, match="neither a file nor a directory"):
        staging.stage_package(job(source), tmp_path / "job")


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"package\.source"):
        staging.stage_package(job(tmp_path / "nowhere"), tmp_path / "job")


def test_a_job_inside_the_package_is_refused(source: Path) -> None:
    with pytest.raises(BadInput, match="copied into itself"):
        staging.stage_package(job(source), source / "jobs" / "small")


def test_a_damaged_note_is_no_note(source: Path, tmp_path: Path) -> None:
    first = staging.stage_package(prepared(source), tmp_path / "job")
    for damage in (b"", b"[]", b'{"key": 1}', b'{"key": null, "files": 3}', b"\xff"):
        (tmp_path / "job" / "staged.json").write_bytes(damage)
        assert staging.stage_package(prepared(source), tmp_path / "job").manifest == first.manifest


KILLED = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import test_job_staging as tests
    from harness.job import staging
    staging.stage_package(tests.prepared(Path({source!r})), Path({job!r}))
    """
)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0.15, 1.2))
def test_killed_at_any_moment_the_next_call_makes_it_whole(source: Path, tmp_path: Path, delay: float) -> None:
    place = tmp_path / "job"
    shutil.rmtree(place, ignore_errors=True)
    script = KILLED.format(tests=str(Path(__file__).parent), source=str(source), job=str(place))
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    staged = staging.stage_package(prepared(source), place)
    assert set(contents(staged.path)) == set(staged.manifest) >= {"data/f.jsonl"}
    assert sorted(path.name for path in place.iterdir()) == ["package", "staged.json"]


def test_killed_between_any_two_file_operations(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies at the n-th rename, unlink or write of the commit, for every n."""

    class Death(BaseException):
        pass

    for old in (False, True):
        for at in range(8):
            place = tmp_path / f"job-{old}-{at}"
            if old:
                staging.stage_package(prepared(source), place)
                (source / "train.py").write_text(f"import lib  # {at}\n")
            steps = iter(range(100))

            def deadly(function: Any, at: int = at, steps: Any = steps) -> Any:
                def call(*args: Any, **options: Any) -> Any:
                    if next(steps) == at:
                        raise Death
                    return function(*args, **options)

                return call

            with monkeypatch.context() as patch:
                patch.setattr(Path, "rename", deadly(Path.rename))
                patch.setattr("harness.core.durable.write", deadly(durable.write))
                patch.setattr("shutil.copyfile", deadly(shutil.copyfile))
                # The dead do not clean up.
                patch.setattr("shutil.rmtree", lambda *_, **__: None)
                with contextlib.suppress(Death):
                    staging.stage_package(prepared(source), place)
            staged = staging.stage_package(prepared(source), place)
            assert set(contents(staged.path)) == set(staged.manifest) >= {"data/f.jsonl", "train.py"}
            assert (staged.path / "train.py").read_bytes() == (source / "train.py").read_bytes()
            assert sorted(path.name for path in place.iterdir()) == ["package", "staged.json"]


def test_what_takes_long_is_shown(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, int, int]] = []
    monkeypatch.setattr(staging, "_WORTH_SHOWING", 1)
    staging.stage_package(
        prepared(source), tmp_path / "job", lambda meter, done, total: shown.append((meter.name, done, total))
    )
    hashed = [(done, total) for name, done, total in shown if name == "hashing"]
    assert hashed[0][0] < hashed[0][1]
    assert any(done == total > 0 for done, total in hashed)
    assert [name for name, _, _ in shown if name == "copying"]
    (wait,) = [one for one in shown if one[0].startswith("python3 ")]
    assert wait[1:] == (0, 600)


def test_a_small_package_is_staged_without_a_word(source: Path, tmp_path: Path) -> None:
    shown: list[str] = []
    staging.stage_package(job(source), tmp_path / "job", lambda meter, *_: shown.append(meter.name))
    assert not shown
