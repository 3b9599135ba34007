"""The probe's program, run as the box would run it but without a network; and what a lying box can answer."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from harness.core.answers import Digest, Match, Text
from harness.core.errors import HostUnreachable
from harness.core.observed import Observed
from harness.core.ports import RunResult
from harness.core.questions import (
    Answers,
    CheckpointsIn,
    Command,
    DigestOf,
    DiskOf,
    GgufOf,
    Glob,
    GpuList,
    Grep,
    Now,
    PackagesOf,
    ProcessesUnder,
    Question,
    ReadText,
    TailOf,
    TreeOf,
)
from harness.remote.box import files, machine
from harness.remote.probe import probe, program
from tests.support.checkpoint_files import write_checkpoint
from tests.support.local_box import LocalBox, tools_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the box is Linux")

T = TypeVar("T")


class Ask(Protocol):
    """Asks one question."""

    def __call__(self, question: Question[T], /) -> Observed[T]: ...


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    return LocalBox(tmp_path).ask


SENT_ALONG = tuple(module for modules in program.EXTRAS.values() for module in modules)


@pytest.mark.parametrize("name", [*program.PROBE, *program.SESSION, *program.RANGES, *program.RECEIVE, *SENT_ALONG])
def test_the_programs_of_the_box_are_python_3_8_and_standard_library(name: str) -> None:
    spec = find_spec(name)
    assert spec is not None
    tree = ast.parse(Path(str(spec.origin)).read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    for module in imported - {"harness.artifacts"}:
        top = module.split(".")[0]
        assert top in sys.stdlib_module_names or module.startswith("harness.remote.box"), module


def test_glob_finds_sorts_and_is_bounded(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.gguf", "a.gguf", ".hidden.gguf", "c.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.gguf").write_text("")
    assert [entry.path for entry in ask(Glob("*.gguf")).get()] == ["a.gguf", "b.gguf"]
    assert [entry.path for entry in ask(Glob("*/d.gguf")).get()] == ["sub/d.gguf"]
    (tmp_path / "model[v3].gguf").write_text("")
    for pattern in ("model[v3].gguf", "model[v?].gguf", "model[*"):
        assert [entry.path for entry in ask(Glob(f"{tmp_path}/{pattern}")).get()] == [f"{tmp_path}/model[v3].gguf"]
    assert ask(Glob(f"{tmp_path}/[ab].gguf")).get() == ()
    (tmp_path / "model[v3].gguf").unlink()
    assert ask(Glob("absent/*.gguf")).get() == ()
    monkeypatch.setattr(files, "MATCHES", 1)
    with pytest.raises(ValueError, match="more than 1 entries"):
        files.glob(f"{tmp_path}/*.gguf")


def test_glob_tells_files_folders_and_links(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "folder").mkdir()
    ((a,), (link,), (folder,)) = (ask(Glob(pattern)).get() for pattern in ("~/a", "l*", "folder"))
    assert (a.path, a.kind, a.bytes, a.is_symlink) == ("~/a", "file", 3, False)
    assert (link.kind, link.bytes, link.is_symlink) == ("file", 3, True)
    assert folder.kind == "dir"
    assert ask(Glob("none")).get() == ask(Glob("a/b")).get() == ()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert "FileNotFoundError" in str(ask(Glob("dangling")).problem)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("pattern", ["closed/x", "closed/*"])
def test_what_may_not_be_read_is_a_problem(ask: Ask, tmp_path: Path, pattern: str) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert "PermissionError" in str(ask(Glob(pattern)).problem)


def test_a_path_that_leads_nowhere_is_a_problem(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert "Too many levels" in str(ask(Glob("loop/x")).problem)


def test_digests_and_trees(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "t" / "sub").mkdir(parents=True)
    (tmp_path / "t" / "sub" / "x").write_bytes(b"x" * 3_000_000)
    (tmp_path / "t" / "out").symlink_to("/etc")
    digest = hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert ask(DigestOf("t/sub/x")).get().sha256 == digest
    assert ask(DigestOf("t/none")).get() == Digest(exists=False)
    tree = ask(TreeOf("t", digests=("sub/x", "out", "absent"))).get()
    assert [(entry.path, entry.kind, entry.sha256) for entry in tree.entries] == [
        ("out", "link", None),
        ("sub/x", "file", digest),
    ]
    assert [entry.path for entry in ask(TreeOf("t", without="sub")).get().entries] == ["out"]
    assert ask(TreeOf("none")).get().exists is False


def test_text_tails_and_matches_are_bounded(ask: Ask, tmp_path: Path) -> None:
    lines = [f"[sft] step {n}/500 loss=0.5" for n in range(1, 501)]
    (tmp_path / "log").write_text("\n".join(lines) + "\n")
    assert ask(TailOf("log", lines=2, limit=1000)).get().lines == tuple(lines[-2:])
    size = (tmp_path / "log").stat().st_size
    assert ask(ReadText("log", limit=10)).get() == Text(exists=True, bytes=size, text=lines[0][:10], truncated=True)
    last = ask(Grep("log", "loss", last=2)).get()
    assert last.count == 500
    assert [match.line for match in last.matches] == [499, 500]
    assert ask(Grep("absent", "x", last=1)).get().exists is False
    (tmp_path / "one").write_bytes(b"x" * 5_000_000 + b"\nloss\xff\n")
    assert ask(Grep("one", "loss", last=1)).get().matches == (Match(2, "loss\ufffd"),)


def test_checkpoints_are_read_where_they_lie(ask: Ask, tmp_path: Path) -> None:
    """The reader itself is tested over the damaged folders of the field; here that its answers come back."""
    write_checkpoint(tmp_path / "sft", 100)
    (write_checkpoint(tmp_path / "sft", 20) / "optimizer.pt").write_bytes(b"PK")
    (tmp_path / "sft" / "checkpoint-30").mkdir()
    (tmp_path / "sft" / "checkpoint-x").mkdir()
    damaged, empty, whole = ask(CheckpointsIn("sft")).get()
    assert (damaged.step, damaged.path) == (20, "sft/checkpoint-20")
    assert damaged.problems == ("optimizer.pt is not a zip archive as torch.save writes it",)
    assert (empty.files, len(empty.problems)) == ({}, 7)
    assert (whole.problems, whole.unread, whole.unfit) == ((), (), ())
    assert whole.files["trainer_state.json"] == 20
    assert ask(CheckpointsIn("absent")).get() == ()


def test_a_checkpoint_that_was_read_before_is_not_read_to_its_end_again(ask: Ask, tmp_path: Path) -> None:
    """Its seal says that none of its files changed since; a file that changed is read again."""
    optimizer = write_checkpoint(tmp_path / "sft", 100) / "optimizer.pt"
    (whole,) = ask(CheckpointsIn("sft")).get()
    before, data = optimizer.stat(), bytearray(optimizer.read_bytes())
    data[100:110] = bytes(10)
    optimizer.write_bytes(data)
    (changed,) = ask(CheckpointsIn("sft", (whole.seal,))).get()
    assert "fails its checksum" in changed.problems[0]
    os.utime(optimizer, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ask(CheckpointsIn("sft", (whole.seal,))).get() == (whole,)


def test_a_gguf_is_judged_by_the_strict_parser(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(20))
    assert "version" in str(ask(GgufOf("x.gguf")).get().malformed)
    assert ask(GgufOf("none.gguf")).get().exists is False


def test_programs_run_without_a_shell_and_end_in_time(ask: Ask) -> None:
    ran = ask(Command(("sh", "-c", "cat; echo out; echo err >&2; exit 3"))).get()
    assert (ran.status, ran.out, ran.err) == (3, "out\n", "err\n")
    assert ask(Command(("echo", "$(id)"))).get().out == "$(id)\n"
    assert ask(Command(("no-such-program-here",))).get().status == 127
    assert "did not end" in str(ask(Command(("sleep", "60"), timeout=0.2)).problem)
    packages = ask(PackagesOf(sys.executable, ("pip", "no-such-package"))).get().packages
    assert packages["no-such-package"] is None


def test_of_a_long_output_both_ends_are_told(ask: Ask) -> None:
    code = "print('READY base_model x'); print('chatter ' * 20000); print('READY gguf_export y')"
    out = ask(Command((sys.executable, "-c", code))).get().out
    assert len(out) < machine.OUTPUT_LIMIT + 100
    assert out.splitlines()[0] == "READY base_model x"
    assert out.splitlines()[-1] == "READY gguf_export y"
    assert len(out.splitlines()) == 3
    assert "bytes are left out" in out


def test_no_end_of_a_line_is_taken_for_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "OUTPUT_LIMIT", 12)
    assert machine.command(["echo", "NOT READY"])["out"] == "NOT READY\n"
    torn = machine.command(["echo", "x" * 100 + " NOT READY"])["out"]
    assert torn == "xxxxxx[... 99 bytes are left out ...]READY\n"


def test_processes_of_a_directory_and_their_launch_variables(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    child = subprocess.Popen(
        ["sleep", "60"], cwd=tmp_path / "work", env={**os.environ, "WORLD_SIZE": "2", "SECRET": "s"}
    )
    try:
        seen = ask(ProcessesUnder("work")).get().processes
    finally:
        child.kill()
        child.wait()
    assert [process.argv for process in seen if process.pid == child.pid] == [("sleep", "60")]
    assert seen[0].env == {"WORLD_SIZE": "2"}


NVIDIA_SMI = """#!/bin/sh
[ "$2" = --format=csv,noheader,nounits ] || exit 2
echo "0, NVIDIA H100 80GB HBM3, 550.54.15, 81559, 1024, 97, 9.0"
echo "1, NVIDIA H100 80GB HBM3, 550.54.15, 81559, [N/A], [N/A], 9.0"
"""


def test_gpus_are_read_as_the_driver_tells_them(tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(NVIDIA_SMI)
    tool.chmod(0o755)
    box = LocalBox(tmp_path, f"{tool.parent}:{os.environ['PATH']}")
    question = GpuList()
    seen = probe.ask(box.run, [question], 30.0)[question].get()
    assert seen.installed is True
    assert [gpu.memory_used_mib for gpu in seen.gpus] == [1024.0, None]
    tool.write_text("#!/bin/sh\necho 'Failed to initialize NVML' >&2; exit 9\n")
    assert "NVML" in str(probe.ask(box.run, [question], 30.0)[question].problem)


def test_one_failing_question_never_hurts_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "large").write_bytes(bytes(6_000_000))
    answers = probe.ask(
        LocalBox(tmp_path).run,
        [
            bad := Grep("a", "(", last=1),
            slow := Command(("sleep", "60"), timeout=60),
            good := DigestOf("a"),
            huge := ReadText("large", limit=6_000_000),
        ],
        4.0,
    )
    assert answers[good].get().exists is True
    assert "error: missing )" in str(answers[bad].problem)
    assert "no answer within" in str(answers[slow].problem)
    assert "too large" in str(answers[huge].problem)


def test_an_equal_question_is_asked_once(tmp_path: Path) -> None:
    sent: list[bytes] = []

    def run(argv: Sequence[str], stdin: bytes, timeout: float, limit: int) -> RunResult:
        sent.append(stdin)
        return LocalBox(tmp_path).run(argv, stdin, timeout, limit)

    answers = probe.ask(run, [Now(), DiskOf("~"), Now(), DiskOf("x"), DiskOf("~")], 30.0)
    assert [text.count(b'"op": ') for text in sent] == [3]
    assert {question: told.problem for question, told in answers.by_question.items()} == dict.fromkeys(
        [Now(), DiskOf("~"), DiskOf("x")]
    )


def test_a_question_that_was_not_asked_has_no_answer() -> None:
    assert "not asked" in str(Answers({})[Now()].problem)


def test_files_in_the_boxs_home_do_not_stand_in_for_the_standard_library(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')")
    assert ask(DigestOf("json.py")).get().exists is True


DIGEST, GLOB = DigestOf("x"), Glob("out/*")
MARKER = "m:"
ONE_MATCH = b'm:{"0": {"problem": "no"}, "1": {"value": [{"path": "%s", "kind": "file", "bytes": 1, "mtime": 0}]}}'
GOOD: dict[str, Any] = {"0": {"value": {"exists": False}}, "1": {"value": []}}


def parsed(output: bytes, status: int = 0) -> tuple[Observed[Any], Observed[Any]]:
    answers = probe.parse(RunResult(status, output, b"said on stderr"), MARKER, [DIGEST, GLOB])
    return answers[DIGEST], answers[GLOB]


def test_a_banner_before_the_answer_is_passed_over() -> None:
    a, b = parsed(b"Welcome to vast.ai\nm:" + json.dumps(GOOD).encode() + b"\n")
    assert a.problem is None
    assert b.problem is None


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"m:",
        b"m:{",
        b"m:[]",
        b"m:null",
        b'm:"text"',
        b"m:" + b"[" * 200_000,
        b"m:" + json.dumps(GOOD).encode()[:-3],
        b"m:{}",
        b'm:{"0": [], "1": 1}',
        b'm:{"0": {}, "1": {"value": null}}',
        b'm:{"0": {"value": 1, "problem": "x"}, "1": {"problem": {"a": 1}}}',
        ONE_MATCH % b"/etc/passwd",
        ONE_MATCH % b"out/\\u001b[2J",
        b"m:" + b"9" * 10_000,
        b'm:{"0": {"value": {"exists": 0}}, "1": {"value": {}}}',
        b'm:{"0": {"value": {"exists": true, "bytes": 1, "sha256": "abc"}}, "1": {"value": [{"path": "out/x"}]}}',
        b'm:{"0": {"value": {"exists": true, "bytes": 1}}, "1": {"value": "out/x"}}',
    ],
    ids=range(18),
)
def test_an_odd_answer_is_never_an_observation(output: bytes) -> None:
    a, b = parsed(output)
    assert a.problem
    assert b.problem


def test_a_box_that_cannot_be_asked_raises(tmp_path: Path) -> None:
    def cut(*_: object) -> RunResult:
        raise HostUnreachable("cut")

    with pytest.raises(HostUnreachable):
        probe.ask(cut, [DIGEST, GLOB], 1.0)
    assert tmp_path.exists()


@pytest.fixture(params=["sh", "busybox"])
def without_python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Ask:
    """A box that has no Python, but the tools of this system, or BusyBox's."""
    if request.param == "sh":
        return LocalBox(tmp_path, python=False).ask
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("BusyBox is not installed")
    return LocalBox(tmp_path, tools_of(busybox, tmp_path_factory.mktemp("tools")), python=False).ask


def test_without_python_the_basic_facts_remain(without_python: Ask, tmp_path: Path) -> None:
    (tmp_path / "-dash").write_bytes(b"four")
    (tmp_path / "log").write_text("".join(f"line {n}\n" for n in range(20_000)))
    assert without_python(DigestOf("-dash")).get().bytes == 4
    assert without_python(TailOf("log", 20, 65_000)).get().lines == tuple(f"line {n}" for n in range(19_980, 20_000))
    assert without_python(Now()).get().time > 1e9
    assert "needs python3" in str(without_python(TreeOf(".")).problem)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("question", [DigestOf("closed/x"), TailOf("closed/x", 20, 1000)], ids=repr)
def test_without_python_what_may_not_be_read_is_a_problem(
    without_python: Ask, tmp_path: Path, question: Question[Any]
) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert "Permission denied" in str(without_python(question).problem)
