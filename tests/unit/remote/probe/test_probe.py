"""The probe's program, run as the box would run it but without a network; and what a lying box can answer."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import HostUnreachable
from harness.core.observed import Observed
from harness.core.ports import Json, Question, RunResult
from harness.remote.probe import posix_fallback, probe, program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the box is Linux")

Ask = Callable[..., Observed[Json]]


class LocalBox:
    """Runs what would be sent to the box, in a HOME of its own."""

    def __init__(self, home: Path, path: str | None = None) -> None:
        self.home = home
        self.environment = {"HOME": str(home), "PATH": path or os.environ["PATH"]}

    def run(self, argv: Sequence[str], stdin: bytes, timeout: float, limit: int) -> RunResult:
        words = [sys.executable, *argv[1:]] if argv[0] == "python3" else list(argv)
        ran = subprocess.run(
            words, input=stdin, capture_output=True, cwd=self.home, env=self.environment, timeout=timeout, check=False
        )
        return RunResult(ran.returncode, ran.stdout[:limit], ran.stderr[:limit])


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    box = LocalBox(tmp_path)

    def one(op: str, **args: Json) -> Observed[Json]:
        return probe.ask(box.run, [Question("q", op, args)], 30.0).get("q")

    return one


def value(seen: Observed[Json]) -> Any:
    return seen.get()


@pytest.mark.parametrize("name", [*program.PROBE, *program.SESSION, *program.RANGES, *program.RECEIVE, program.GGUF])
def test_the_programs_of_the_box_are_python_3_8_and_standard_library(name: str) -> None:
    spec = find_spec(name)
    assert spec is not None
    tree = ast.parse(Path(str(spec.origin)).read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    for module in imported - {"harness.artifacts"}:
        top = module.split(".")[0]
        assert top in sys.stdlib_module_names or module.startswith("harness.remote.box"), module


def test_stat_of_files_links_and_nothing(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert value(ask("stat", path="a"))["bytes"] == 3
    assert value(ask("stat", path="~/a"))["kind"] == "file"
    assert value(ask("stat", path="link"))["is_symlink"] is True
    assert value(ask("stat", path="."))["kind"] == "dir"
    assert value(ask("stat", path="b"))["exists"] is False
    assert value(ask("stat", path="a/b"))["exists"] is False
    assert value(ask("stat", path="dangling")) == {"exists": False, "is_symlink": True}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_a_problem(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert "PermissionError" in str(ask("stat", path="closed/x").problem)
    assert "PermissionError" in str(ask("glob", pattern="closed/*").problem)


def test_glob_finds_sorts_and_is_bounded(ask: Ask, tmp_path: Path) -> None:
    for name in ("b.gguf", "a.gguf", ".hidden.gguf", "c.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.gguf").write_text("")
    assert [entry["path"] for entry in value(ask("glob", pattern="*.gguf"))] == ["a.gguf", "b.gguf"]
    assert [entry["path"] for entry in value(ask("glob", pattern="*/d.gguf"))] == ["sub/d.gguf"]
    assert [entry["path"] for entry in value(ask("glob", pattern=f"{tmp_path}/[ab].gguf"))] == [
        f"{tmp_path}/a.gguf",
        f"{tmp_path}/b.gguf",
    ]
    assert value(ask("glob", pattern="absent/*.gguf")) == []
    assert "more than 1 entries" in str(ask("glob", pattern="*.gguf", limit=1).problem)


def test_digests_and_trees(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "t" / "sub").mkdir(parents=True)
    (tmp_path / "t" / "sub" / "x").write_bytes(b"x" * 3_000_000)
    (tmp_path / "t" / "out").symlink_to("/etc")
    digest = hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert value(ask("sha256", path="t/sub/x"))["sha256"] == digest
    assert value(ask("sha256", path="t/none")) == {"exists": False}
    tree = value(ask("tree", path="t", digests=["sub/x", "out", "absent"]))
    assert [(entry["path"], entry["kind"], entry.get("sha256")) for entry in tree["entries"]] == [
        ("out", "link", None),
        ("sub/x", "file", digest),
    ]
    without = value(ask("tree", path="t", without="sub"))
    assert [entry["path"] for entry in without["entries"]] == ["out"]
    assert value(ask("tree", path="none"))["exists"] is False


def test_text_tails_and_matches_are_bounded(ask: Ask, tmp_path: Path) -> None:
    lines = [f"[sft] step {n}/500 loss=0.5" for n in range(1, 501)]
    (tmp_path / "log").write_text("\n".join(lines) + "\n")
    assert value(ask("tail", path="log", lines=2))["lines"] == lines[-2:]
    assert value(ask("read_text", path="log", limit=10)) == {
        "exists": True,
        "bytes": (tmp_path / "log").stat().st_size,
        "text": lines[0][:10],
        "truncated": True,
    }
    last = value(ask("grep", path="log", pattern="loss", last=2))
    assert last["count"] == 500
    assert [match["line"] for match in last["matches"]] == [499, 500]
    assert [match["line"] for match in value(ask("grep", path="log", pattern="step 1", first=2))["matches"]] == [1, 10]
    assert value(ask("grep", path="absent", pattern="x")) == {"exists": False}
    (tmp_path / "one").write_bytes(b"x" * 5_000_000 + b"\nloss\xff\n")
    found = value(ask("grep", path="one", pattern="loss", first=1))
    assert found["matches"] == [{"line": 2, "text": "loss\ufffd"}]


def test_a_growing_log_is_seen_to_grow(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("x")
    assert value(ask("log_growth", path="log", ms=10)) == {"exists": True, "before": 1, "after": 1}
    writer = subprocess.Popen(["sh", "-c", "while :; do echo line >> log; sleep 0.02; done"], cwd=tmp_path)
    try:
        seen = value(ask("log_growth", path="log", ms=300))
    finally:
        writer.kill()
        writer.wait()
    assert seen["after"] > seen["before"]


def test_json_is_read_with_its_odd_numbers_named(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"loss": NaN, "steps": {"sft": 3}}')
    assert value(ask("read_json", path="run.json"))["json"] == {"loss": "NaN", "steps": {"sft": 3}}
    (tmp_path / "bad.json").write_text('{"loss": ')
    assert "JSONDecodeError" in str(ask("read_json", path="bad.json").problem)
    assert "larger than" in str(ask("read_json", path="run.json", limit=5).problem)


def safetensors(path: Path, size: int = 16) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, size]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))


def test_checkpoints_are_described_file_by_file(ask: Ask, tmp_path: Path) -> None:
    for step in (100, 20):
        folder = tmp_path / "sft" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        safetensors(folder / "adapter_model.safetensors")
        with zipfile.ZipFile(folder / "optimizer.pt", "w") as archive:
            archive.writestr("data.pkl", b"x" * 1000)
    (tmp_path / "sft" / "checkpoint-30").mkdir()
    (tmp_path / "sft" / "checkpoint-x").mkdir()
    safetensors(tmp_path / "sft" / "checkpoint-100" / "adapter_model.safetensors", size=12)
    optimizer = tmp_path / "sft" / "checkpoint-100" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:500])
    small, empty, damaged = value(ask("checkpoints", path="sft"))
    assert (small["step"], small["global_step"]) == (20, {"value": 20})
    assert small["parsed"]["adapter_model.safetensors"]["value"]["tensors"] == 1
    assert small["parsed"]["optimizer.pt"] == {"value": {"entries": 1}}
    assert small["files"]["trainer_state.json"] == 19
    assert (empty["step"], empty["files"]) == (30, {})
    assert "malformed" in empty["global_step"]
    assert "malformed" in damaged["parsed"]["adapter_model.safetensors"]
    assert "malformed" in damaged["parsed"]["optimizer.pt"]


def test_a_gguf_is_judged_by_the_strict_parser(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(20))
    assert "version" in value(ask("gguf", path="x.gguf"))["malformed"]
    assert value(ask("gguf", path="none.gguf")) == {"exists": False}


def test_programs_run_without_a_shell_and_end_in_time(ask: Ask) -> None:
    ran = value(ask("command", argv=["sh", "-c", "echo out; echo err >&2; exit 3"]))
    assert ran == {"status": 3, "out": "out\n", "err": "err\n"}
    assert value(ask("command", argv=["echo", "$(id)"]))["out"] == "$(id)\n"
    assert value(ask("command", argv=["no-such-program-here"]))["status"] == 127
    assert "did not end" in str(ask("command", argv=["sleep", "60"], timeout=0.2).problem)
    assert value(ask("python_check", code="print(6 * 7)"))["out"] == "42\n"
    packages = value(ask("python_packages", names=["pip", "no-such-package"], python=sys.executable))["packages"]
    assert packages["no-such-package"] is None


def test_of_a_long_output_both_ends_are_told(ask: Ask) -> None:
    code = "print('READY base_model x'); print('chatter ' * 20000); print('READY gguf_export y')"
    out = value(ask("python_check", code=code))["out"]
    assert len(out) < (1 << 16) + 100
    assert out.splitlines()[0] == "READY base_model x"
    assert out.splitlines()[-1] == "READY gguf_export y"
    assert len(out.splitlines()) == 3
    assert "bytes are left out" in out
    torn = value(ask("command", argv=["echo", "NOT READY"], limit=12))["out"]
    assert torn == "NOT READY\n"
    torn = value(ask("command", argv=["echo", "x" * 100 + " NOT READY"], limit=12))["out"]
    assert torn == "xxxxxx[... 99 bytes are left out ...]READY\n"


def test_processes_of_a_directory_and_their_launch_variables(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    child = subprocess.Popen(
        ["sleep", "60"], cwd=tmp_path / "work", env={**os.environ, "WORLD_SIZE": "2", "SECRET": "s"}
    )
    try:
        seen = value(ask("processes", cwd_under="work"))["processes"]
    finally:
        child.kill()
        child.wait()
    assert [process["argv"] for process in seen if process["pid"] == child.pid] == [["sleep", "60"]]
    assert seen[0]["env"] == {"WORLD_SIZE": "2"}


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
    seen = value(probe.ask(box.run, [Question("g", "gpus")], 30.0).get("g"))
    assert seen["installed"] is True
    assert [gpu["memory_used_mib"] for gpu in seen["gpus"]] == [1024.0, None]
    tool.write_text("#!/bin/sh\necho 'Failed to initialize NVML' >&2; exit 9\n")
    assert "NVML" in str(probe.ask(box.run, [Question("g", "gpus")], 30.0).get("g").problem)


def test_one_failing_question_never_hurts_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    questions = [
        Question("bad", "read_json", {"path": "a"}),
        Question("odd", "stat", {"no_such_argument": 1}),
        Question("slow", "command", {"argv": ["sleep", "60"], "timeout": 60}),
        Question("good", "stat", {"path": "a"}),
        Question("huge", "command", {"argv": ["head", "-c", "6000000", "/dev/zero"], "limit": 6_000_000}),
    ]
    answers = probe.ask(LocalBox(tmp_path).run, questions, 4.0)
    assert value(answers.get("good"))["exists"] is True
    assert "JSONDecodeError" in str(answers.get("bad").problem)
    assert "TypeError" in str(answers.get("odd").problem)
    assert "no answer within" in str(answers.get("slow").problem)
    assert "too large" in str(answers.get("huge").problem)


def test_files_in_the_boxs_home_do_not_stand_in_for_the_standard_library(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')")
    assert value(ask("stat", path="json.py"))["exists"] is True


QUESTIONS = [Question("a", "stat", {"path": "x"}), Question("b", "glob", {"pattern": "out/*"})]
MARKER = "m:"
GOOD: dict[str, Any] = {"a": {"value": {"exists": False}}, "b": {"value": []}}


def parsed(output: bytes, status: int = 0) -> tuple[Observed[Json], Observed[Json]]:
    answers = probe.parse(RunResult(status, output, b"said on stderr"), MARKER, QUESTIONS)
    return answers.get("a"), answers.get("b")


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
        b'm:{"a": [], "b": 1}',
        b'm:{"a": {}, "b": {"value": null}}',
        b'm:{"a": {"value": 1, "problem": "x"}, "b": {"problem": {"a": 1}}}',
        b'm:{"a": {"problem": "no"}, "b": {"value": [{"path": "/etc/passwd"}]}}',
        b'm:{"a": {"problem": "no"}, "b": {"value": [{"path": "out/\\u001b[2J"}]}}',
        b"m:" + b"9" * 10_000,
    ],
    ids=range(15),
)
def test_an_odd_answer_is_never_an_observation(output: bytes) -> None:
    a, b = parsed(output)
    assert a.problem
    assert b.problem


def test_a_box_that_cannot_be_asked_raises(tmp_path: Path) -> None:
    def cut(*_: object) -> RunResult:
        raise HostUnreachable("cut")

    with pytest.raises(HostUnreachable):
        probe.ask(cut, QUESTIONS, 1.0)
    assert tmp_path.exists()


@pytest.fixture(params=["sh", "busybox"])
def without_python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Ask:
    """A box that has no Python, but the tools of this system, or BusyBox's."""
    tools = None
    if request.param == "busybox":
        busybox = shutil.which("busybox")
        if busybox is None:
            pytest.skip("BusyBox is not installed")
        tools = tmp_path_factory.mktemp("tools")
        for tool in ("sh", "stat", "wc", "sha256sum", "df", "tail", "date"):
            (tools / tool).symlink_to(busybox)
    box = LocalBox(tmp_path, str(tools) if tools else None)

    def run(argv: Sequence[str], stdin: bytes, timeout: float, limit: int) -> RunResult:
        if argv[0] == "python3":
            return RunResult(posix_fallback.NO_SUCH_PROGRAM, b"", b"sh: python3: not found")
        return box.run(argv, stdin, timeout, limit)

    return lambda op, **args: probe.ask(run, [Question("q", op, args)], 10.0).get("q")


def test_without_python_the_basic_facts_remain(without_python: Ask, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "-dash").write_bytes(b"four")
    (tmp_path / "log").write_text("".join(f"line {n}\n" for n in range(20_000)))
    (tmp_path / "empty").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    stat = value(without_python("stat", path="a"))
    assert (stat["bytes"], stat["kind"]) == (3, "file")
    assert value(without_python("stat", path="empty"))["kind"] == "file"
    assert value(without_python("stat", path="."))["kind"] == "dir"
    assert value(without_python("stat", path="-dash"))["bytes"] == 4
    for absent in ("none", "a/b", "dangling", "$(id)", "no\nthing"):
        assert value(without_python("stat", path=absent)) == {"exists": False}, absent
        assert value(without_python("tail", path=absent)) == {"exists": False}, absent
    assert value(without_python("sha256", path="~/a"))["sha256"] == hashlib.sha256(b"abc").hexdigest()
    assert value(without_python("disk", path="~"))["free"] > 0
    assert value(without_python("tail", path="a")) == {"exists": True, "bytes": 3, "lines": ["abc"]}
    assert value(without_python("tail", path="empty"))["lines"] == []
    assert value(without_python("tail", path="log"))["lines"] == [f"line {n}" for n in range(19_980, 20_000)]
    assert value(without_python("now"))["time"] > 1e9
    assert "needs python3" in str(without_python("tree", path="a").problem)


@pytest.mark.parametrize("op", ["stat", "sha256", "tail"])
def test_without_python_what_cannot_be_looked_at_is_a_problem(without_python: Ask, tmp_path: Path, op: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    assert "Too many levels" in str(without_python(op, path="loop").problem)
    if op != "stat":
        assert "Is a directory" in str(without_python(op, path="folder").problem)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("op", ["stat", "sha256", "tail"])
def test_without_python_what_may_not_be_read_is_a_problem(without_python: Ask, tmp_path: Path, op: str) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert "Permission denied" in str(without_python(op, path="closed/x").problem)
