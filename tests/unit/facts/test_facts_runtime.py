"""The model is asked to go on from the job's own prompt; it is a stranger's, and gets no more than it needs."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.core import process
from harness.core.observed import CouldNotLook
from harness.core.process import Finished
from harness.facts import runtime

STAND_IN = """
import json, os, sys
from types import SimpleNamespace
__version__ = "1.2.3"
CommonParams = lambda: SimpleNamespace(model=SimpleNamespace(path=None))
class Server:
    def __init__(self, params):
        self.path = params.model.path
    def handle_completions(self, asked):
        text = os.path.basename(self.path) + " after " + asked["prompt"]
{acts}
        return {{"usage": {{"completion_tokens": 3}}, "choices": [{{"text": text}}]}}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    return path


def _stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, acts: str = "pass") -> None:
    """A runtime that does something of its own while it generates."""
    (folder / "xllamacpp.py").write_text(STAND_IN.format(acts=f"        {acts}"))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_the_prompt_is_the_jobs(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(tmp_path, monkeypatch)
    said = runtime.generate(model, "ROWS 'and' so on")
    assert (said.loaded, said.tokens, said.text) == (True, 3, "m.gguf after ROWS 'and' so on")
    assert runtime.ready() == "1.2.3"


UNKNOWN = {
    "killed": ("os.kill(os.getpid(), 9)", "ended by the system"),
    "aborted": ("os.abort()", "ended by the system"),
    "out of memory, in its own words": (
        "print('llama_model_load: error loading model: std::bad_alloc'); raise RuntimeError('Failed to init server')",
        "of memory",
    ),
    "out of memory": ("raise MemoryError", "of memory"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")
@pytest.mark.parametrize("name", UNKNOWN)
def test_what_ended_from_outside_says_nothing_about_the_file(
    name: str, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts, why = UNKNOWN[name]
    _stand_in(tmp_path, monkeypatch, acts)
    with pytest.raises(CouldNotLook, match=why):
        runtime.generate(model, "x")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's memory")
def test_memory_is_bounded(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that loops fills gigabytes; here a piece that fits no bound is asked for at once."""
    monkeypatch.setattr(runtime, "_ROOM", 200 << 20)
    _stand_in(tmp_path, monkeypatch, "bytearray(400 << 20)")
    with pytest.raises(CouldNotLook, match=r"more than the 209\.72 MB of memory"):
        runtime.generate(model, "x")


def test_time_is_bounded(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_TIMEOUT_S", 1.0)
    _stand_in(tmp_path, monkeypatch, "[None for _ in iter(int, 1)]")
    with pytest.raises(CouldNotLook, match="did not answer within 1 s"):
        runtime.generate(model, "x")


def test_output_is_bounded_and_never_taken_for_the_answer(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(tmp_path, monkeypatch, "print('GENERATED {}\\n' * (1 << 20)); sys.stderr.write('log ' * (1 << 20))")
    said = runtime.generate(model, "x")
    assert (said.loaded, said.tokens) == (True, 3)


def test_an_error_of_the_runtime_is_about_the_file(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(tmp_path, monkeypatch, "raise RuntimeError('unknown architecture')")
    said = runtime.generate(model, "x")
    assert not said.loaded
    assert "unknown architecture" in said.error


def test_a_runtime_that_ends_without_an_answer_has_not_generated(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(tmp_path, monkeypatch, "sys.exit(0)")
    assert not runtime.generate(model, "x").loaded


def test_it_sees_no_key_and_no_module_of_the_working_directory(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "work"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise SystemExit('taken from the working directory')")
    monkeypatch.chdir(elsewhere)
    for name in ("VAST_API_KEY", "HF_TOKEN", "DATABASE_URL", "GITHUB_PAT"):
        monkeypatch.setenv(name, "secret")
    _stand_in(tmp_path, monkeypatch, "text = ' '.join(name for name in os.environ if os.environ[name] == 'secret')")
    assert runtime.generate(model, "x").text == ""


def test_a_file_that_is_gone_is_not_called_broken(tmp_path: Path) -> None:
    with pytest.raises(CouldNotLook, match="cannot be read"):
        runtime.generate(tmp_path / "nothing.gguf", "x")


MARK = "the mark"
SAID = f'loading\n{MARK}{{"tokens": 3, "text": "a"}}\nbye'


@pytest.mark.parametrize(
    ("ran", "why"),
    [
        (Finished(0, SAID, timed_out=True), "did not answer within 600 s"),
        (Finished(75, ""), "of memory that it may take"),
        (Finished(1, "std::bad_alloc"), "of memory that it may take"),
        (Finished(1, "CUDA error: OUT OF MEMORY"), "of memory that it may take"),
        (Finished(-9, SAID), "was ended by the system"),
        (Finished(-6, "std::terminate"), "was ended by the system"),
        (Finished(256, SAID), "was ended by the system"),
    ],
)
def test_a_runtime_that_had_not_its_time_its_memory_or_its_end_tells_nothing(
    ran: Finished, why: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _plays(ran, monkeypatch)
    with pytest.raises(CouldNotLook, match=why):
        runtime.generate(model, "x")


@pytest.mark.parametrize(
    ("ran", "loaded"),
    [
        (Finished(0, SAID), True),
        (Finished(0, f"bad_alloc, said the file\n{SAID}"), True),
        (Finished(1, SAID), False),
        (Finished(255, "unknown architecture"), False),
        (Finished(0, "no answer"), False),
        (Finished(0, f'{MARK}"text"'), False),
    ],
)
def test_a_runtime_that_ended_by_itself_tells_of_the_file(
    ran: Finished, loaded: bool, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _plays(ran, monkeypatch)
    said = runtime.generate(model, "the prompt")
    assert (said.loaded, said.tokens, said.text) == ((True, 3, "a") if loaded else (False, 0, ""))
    assert asked[-4:] == [MARK, str(2 * 4 + (4 << 30)), str(model.resolve()), "the prompt"]


def test_of_several_answers_the_last_one_counts(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _plays(Finished(0, f"{SAID}\n{SAID.replace('3', '4')}"), monkeypatch)
    assert runtime.generate(model, "x").tokens == 4


def test_a_runtime_that_does_not_load_or_is_not_there_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _plays(Finished(1, "ImportError: libcuda.so.1"), monkeypatch)
    with pytest.raises(CouldNotLook, match=r"the llama\.cpp runtime does not load: ImportError: libcuda"):
        runtime.ready()
    monkeypatch.setattr(runtime, "find_spec", lambda _: None)
    with pytest.raises(CouldNotLook, match="no llama\\.cpp runtime is installed"):
        runtime.ready()


def _plays(ran: Finished, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A runtime of which only the end is known; the words that it was started with."""
    asked: list[str] = []

    def run(argv: list[str], **_: object) -> Finished:
        asked[:] = argv
        return ran

    monkeypatch.setattr(runtime, "find_spec", lambda _: find_spec("json"))
    monkeypatch.setattr(runtime, "new_secret", lambda: MARK)
    monkeypatch.setattr(process, "run", run)
    return asked
