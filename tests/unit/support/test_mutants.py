"""The changes that are made of a module, and what becomes of one that no test notices."""

from __future__ import annotations

import ast
import json
import os
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.process import Finished
from tests.mutants import __main__ as running
from tests.mutants.__main__ import Copy, drawn
from tests.mutants.kinds import KINDS, Mutant, mutants
from tests.mutants.reaching import Reaching
from tests.mutants.rooms import ROOMS, Room
from tests.mutants.warm import FAILED, HUNG, PASSED, UNTOLD, Warm

CHANGED = {
    "if a < b: pass": [("comparison flipped", "(a <= b)")],
    "if a not in b: pass": [("comparison flipped", "(a in b)")],
    "if a is None or b: pass": [("comparison flipped", "(a is not None)"), ("and for or", "(a is None and b)")],
    "if not a: pass": [("not dropped", "(a)")],
    "f(ä, x)[1]": [("number off by one", "(1 + 1)")],
    "def f():\n    return a": [("another answer", "return False")],
    "def f():\n    return None": [("another answer", "return False")],
    "def f() -> bool:\n    return False": [("another answer", "return True")],
    "if a:\n    raise E(f(1), not b)": [("refusal left out", "pass")],
    "assert a, f'{1}' if not b else 1": [("refusal left out", "pass")],
    "reporter.note(1)": [],
    "a = printable(b, 300)": [],
    "MAX_NAME = _POLL_S = 5": [],
    "_POLL_S = 5": [],
    "try: pass\nexcept (A, B.C): pass": [("exception let through", "(B.C,)")],
    "try: pass\nexcept A: pass": [],
    "os.fsync(file)": [("call left out", "pass")],
    "_WANTED = ('a b', 'c')": [("table's element", "('c',)"), ("table's element", "'c_'")],
    "WANTED: Final = {'a b': x, 'c d': y}": [("table's element", "{'c d': y}")],
    "def f(x: Literal['a', 'b']) -> tuple[int, 1]:\n    '''Say 1.'''\n    a = ('b', f'{1} {not x}')": [],
    "__all__ = ['a', 'b']": [],
    "Table = Mapping[str, Any]": [],
    "WANTED = TABLE['a b', 'c']": [("table's element", "('c',)"), ("table's element", "'c_'")],
    "if TYPE_CHECKING:\n    f(1)": [],
}


@pytest.mark.parametrize(("text", "expected"), CHANGED.items())
def test_a_module_is_changed_in_one_place_by_every_kind(text: str, expected: list[tuple[str, str]]) -> None:
    made = mutants("a.py", text, random.Random(1))
    assert sorted((one.kind, one.after) for one in made) == sorted(expected)
    for one in made:
        ast.parse(one.text)
        assert one.text == text.replace(one.before, one.after, 1)
        assert one.text != text


def test_the_same_seed_draws_the_same_and_another_one_others() -> None:
    only = "harness/guard/*"
    first, again, other = ([one for one, _ in drawn(running.TREE, seed, only)] for seed in (1, 1, 2))
    assert first == again
    assert [one.line for one in first] != [one.line for one in other]
    assert [one.kind for one in first[:4]] == list(KINDS)[:4]


def test_every_room_has_modules_and_tests() -> None:
    for room in ROOMS:
        modules = room.found(running.TREE)
        assert modules
        files = room.files(running.TREE, modules[0])
        assert files
        assert all((running.TREE / file).is_file() for file in files)


def seen_by(folder: Path, tests: dict[str, tuple[float, list[str]]], lines: dict[str, Any]) -> Reaching:
    (folder / "1.json").write_text(json.dumps({"tests": tests, "lines": lines}), "utf-8")
    return Reaching.read(folder, folder)


def mutant(path: str, line: int, last: int | None = None) -> Mutant:
    return Mutant(path, "", line, last or line, "", "", "")


def test_a_mutant_is_judged_by_the_tests_that_run_through_it(tmp_path: Path) -> None:
    """Those that noticed one before come first, then the module's own, then the short ones; files together."""
    (tmp_path / "room.py").write_text("LIMITS = (1, 2)\n_BOTH = LIMITS\ndef f(x=_BOTH):\n    a\n    b\n", "utf-8")
    (tmp_path / "other.py").write_text("def g():\n    room.f()\n", "utf-8")
    tests = {
        "t/test_a.py::slow": (9.0, []),
        "t/test_a.py::quick": (1.0, []),
        "t/test_room.py::own": (3.0, []),
        "t/test_b.py::shares": (2.0, ["fixture t box"]),
        "t/test_b.py::long": (70.0, []),
    }
    of_room = {
        "t/test_a.py::slow": [4, 5],
        "t/test_a.py::quick": [1, 4],
        "t/test_room.py::own": [4],
        "fixture t box": [5],
        "t/test_gone.py::failed": [4, 5],
    }
    (tmp_path / "page.jinja").write_text("one line", "utf-8")
    others = {"other.py": {"t/test_b.py::long": [2]}, "page.jinja": {"t/test_b.py::long": [30]}}
    reaching = seen_by(tmp_path, tests, {"room.py": of_room, **others})
    assert reaching.tests(mutant("room.py", 4)) == ["t/test_room.py::own", "t/test_a.py::quick", "t/test_a.py::slow"]
    assert reaching.tests(mutant("room.py", 5)) == ["t/test_b.py::shares", "t/test_a.py::slow"]
    made_with_it = ["t/test_a.py::quick", "t/test_b.py::long"]
    assert reaching.tests(mutant("room.py", 1)) == ["t/test_a.py::quick"], "a minute is over"
    reaching.seconds["t/test_b.py::long"] = 50.0
    assert reaching.tests(mutant("room.py", 1)) == made_with_it, "by the name of it, too: it runs at the import"
    reaching.seconds["t/test_b.py::long"] = 70.0
    assert reaching.tests(mutant("elsewhere.py", 1)) == []
    reaching.noticed("t/test_a.py::slow")
    assert reaching.tests(mutant("room.py", 4)) == ["t/test_a.py::slow", "t/test_a.py::quick", "t/test_room.py::own"]
    reaching.seconds["t/test_a.py::quick"] = 59.0
    assert reaching.tests(mutant("room.py", 4)) == ["t/test_a.py::slow", "t/test_room.py::own"], "a minute is over"


WATCHED_ROOM = {
    "checks/__init__.py": "",
    "checks/room.py": "def least(one, other):\n    if one < other:\n        return one\n    return other\n",
    "test_room.py": (
        "import pytest\nfrom checks import room\n"
        "@pytest.fixture(scope='module')\ndef shared():\n    return room.least(2, 1)\n"
        "def test_less():\n    assert room.least(1, 2) == 1\n"
        "def test_first(shared):\n    assert shared == 1\n"
        "def test_second(shared):\n    assert shared == 1\n"
        "def test_broken():\n    assert room.least(1, 2) == 2\n"
    ),
}


def test_a_run_is_watched_and_a_choice_of_it_runs_in_its_order(tmp_path: Path) -> None:
    """What tests share is each one's; a test that fails judges nothing."""
    for path, text in WATCHED_ROOM.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, "utf-8")
    seen = tmp_path / "seen"
    seen.mkdir()
    running.watch(tmp_path, [Room(("checks/room.py",), ("test_room.py",))], seen)
    reaching = Reaching.read(seen, tmp_path)
    assert set(reaching.seconds) == {f"test_room.py::test_{name}" for name in ("less", "first", "second")}
    assert reaching.tests(mutant("checks/room.py", 3)) == ["test_room.py::test_less"]
    assert set(reaching.tests(mutant("checks/room.py", 4))) == {
        "test_room.py::test_first",
        "test_room.py::test_second",
    }
    copy = Copy(tmp_path, ("-rA",), reaching)
    said = copy._pytest("test_room.py::test_second", "test_room.py::test_less")
    assert re.findall(r"PASSED \S+::test_(\w+)", said.tail) == ["second", "less"]


ROOM = Room(("room.py",), ("test_room.py",))
DIFFERENT = "def least(one, other):\n    return None\n"
MODULE = "def least(one, other):\n    return one if one < other else other\n"
TEST = "import room\ndef test_least():\n    assert room.least(1, 2) == 1\ndef test_broken():\n    assert room.nothing\n"


@pytest.mark.parametrize(
    ("after", "outcome"),
    [("one >= other", "killed"), ("one <= other", "survived"), ("one <", "killed")],
    ids=["noticed", "not noticed", "not even read"],
)
def test_a_mutant_is_killed_by_a_test_that_passes_without_it(tmp_path: Path, after: str, outcome: str) -> None:
    (tmp_path / "room.py").write_text(MODULE, "utf-8")
    (tmp_path / "test_room.py").write_text(TEST, "utf-8")
    changed = Mutant("room.py", "", 2, 2, "one < other", after, MODULE.replace("one < other", after))
    assert Copy(tmp_path, ()).notices(changed, ROOM) == outcome
    assert (tmp_path / "room.py").read_text("utf-8") == MODULE


ENDS, DIES, HANGS = Finished(0, ""), Finished(-9, ""), Finished(-15, "", timed_out=True)
FAILS = Finished(1, "FAILED test_room.py::test_least - assert 2 == 1\n")


@pytest.mark.parametrize(
    ("changed", "unchanged", "outcome"),
    [
        ([HANGS], [ENDS], "timeout"),
        ([HANGS], [HANGS], "unjudged"),
        ([DIES], [ENDS], "killed"),
        ([DIES], [DIES], "unjudged"),
        ([FAILS, FAILS], [ENDS], "killed"),
        ([FAILS, ENDS, ENDS], [ENDS], "survived"),  # once, by chance
        ([FAILS, ENDS], [FAILS], "survived"),
    ],
    ids=["hangs", "hangs anyway", "dies", "dies anyway", "fails", "fails by chance", "fails anyway"],
)
def test_a_busy_machine_neither_kills_nor_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: list[Finished], unchanged: list[Finished], outcome: str
) -> None:
    module = tmp_path / "room.py"
    module.write_text(MODULE, "utf-8")
    answers = {MODULE: unchanged, DIFFERENT: changed}
    monkeypatch.setattr(Copy, "_pytest", lambda _self, *_: answers[module.read_text("utf-8")].pop(0))
    assert Copy(tmp_path, ()).notices(Mutant("room.py", "", 2, 2, "", "", DIFFERENT), ROOM) == outcome
    assert not changed
    assert not unchanged


def test_tests_that_take_long_without_a_mutant_prove_nothing_by_taking_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "room.py").write_text(MODULE, "utf-8")
    answers = [HANGS, ENDS]
    monkeypatch.setattr(Copy, "_pytest", lambda _self, *_: answers.pop(0))
    monkeypatch.setattr(running, "TIMEOUT_S", 0.0)
    assert Copy(tmp_path, ()).notices(Mutant("room.py", "", 2, 2, "", "", DIFFERENT), ROOM) == "unjudged"


WARM_ROOM = """\
import functools, os
TABLE = (1, 2)
def least(one, other):
    return one if one < other else other
@functools.cache
def kept():
    return 1
def outer(one):
    def inner():
        return super
    return inner if one else None
"""
WARM_TEST = """\
from pathlib import Path
import pytest
import room
assert room.kept() == 1
def test_least():
    assert room.least(1, 2) == 1
def test_other():
    assert room.least(2, 1) == 1
def test_kept():
    assert room.kept() == 1
@pytest.fixture(scope="session")
def box():
    yield
    Path("box.ended").touch()
def test_with_a_box(box):
    assert room.least(1, 2) == 1
def test_whose_box_was_ended():
    assert Path("box.ended").exists()
def test_broken():
    assert room.nothing
"""


def started(tree: Path) -> Warm:
    (tree / "room.py").write_text(WARM_ROOM, "utf-8")
    (tree / "test_room.py").write_text(WARM_TEST, "utf-8")
    client = Warm(tree, [*running._PYTEST, "test_room.py"], running._environment(tree))
    assert client.is_ready()
    return client


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="a fork needs Linux or macOS")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str, Sequence[str]], tuple[str, str]]]:
    """Asks tests of a change of the room; a loop without an end is given two seconds."""
    tree = tmp_path_factory.mktemp("warm")
    client = started(tree)

    def ask(before: str, after: str, tests: Sequence[str]) -> tuple[str, str]:
        (tree / "room.py").write_text(WARM_ROOM.replace(before, after), "utf-8")
        ids = [f"test_room.py::test_{name}" for name in tests]
        outcome, failed = client.ask("room.py" if before else "", ids, 2.0 if "while True" in after else 60.0)
        return outcome, failed.removeprefix("test_room.py::test_")

    yield ask
    client.close()


ENDLESS = "while True: pass\n    return one if"


@needs_fork
@pytest.mark.parametrize(
    ("before", "after", "answer"),
    [
        ("one < other", "one > other", (FAILED, "least")),
        ("else other", "else None", (FAILED, "other")),
        ("return 1", "return 2", (FAILED, "kept")),
        ("one < other", "one <= other", (PASSED, "")),
        ("one < other", "one <", (UNTOLD, "")),
        ("(1, 2)", "(1,)", (UNTOLD, "")),
        ("return one if", ENDLESS, (HUNG, "")),
        ("return one if", "os._exit(3)\n    return one if", (FAILED, "")),
    ],
    ids=["noticed", "by another", "kept answers", "not noticed", "not read", "at the import", "hangs", "dies"],
)
def test_a_fork_runs_the_tests_with_the_changed_module(
    warm: Callable[[str, str, Sequence[str]], tuple[str, str]], before: str, after: str, answer: tuple[str, str]
) -> None:
    assert warm(before, after, ["least", "other", "kept"]) == answer
    assert warm("", "", ["least", "other", "kept"]) == (PASSED, ""), "a fork leaves nothing behind"
    assert warm("", "", ["broken"]) == (FAILED, "broken")


@needs_fork
def test_a_fork_that_hangs_ends_what_its_fixtures_have_started(
    warm: Callable[[str, str, Sequence[str]], tuple[str, str]],
) -> None:
    assert warm("return one if", ENDLESS, ["with_a_box"]) == (HUNG, "")
    assert warm("", "", ["whose_box_was_ended"]) == (PASSED, "")


@needs_fork
def test_a_warm_pytest_that_is_gone_tells_nothing(tmp_path: Path) -> None:
    client = started(tmp_path)
    client._process.kill()
    client._process.wait()
    assert client.ask("", ["test_room.py::test_least"], 60.0) == (UNTOLD, "")
    client.close()


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([(FAILED, "t"), (FAILED, "t"), (PASSED, "")], "killed"),
        ([(FAILED, "t"), (PASSED, ""), (PASSED, "")], ""),  # once, by chance
        ([(FAILED, "t"), (FAILED, "t"), (FAILED, "t"), (PASSED, "")], ""),  # anyway
        ([(HUNG, ""), (PASSED, "")], "timeout"),
        ([(HUNG, ""), (HUNG, "")], ""),
        ([(FAILED, "")], ""),
        ([(UNTOLD, "")], ""),
    ],
    ids=["fails", "fails by chance", "fails anyway", "hangs", "hangs anyway", "dies", "not told"],
)
def test_what_is_not_noticed_warm_is_asked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[tuple[str, str]], outcome: str
) -> None:
    (tmp_path / "room.py").write_text(MODULE, "utf-8")
    monkeypatch.setattr(Reaching, "tests", lambda *_: ["t", "u"])
    monkeypatch.setattr(Copy, "_anew", lambda *_: "anew")
    reaching = Reaching(seconds={"t": 1.0, "u": 1.0})
    copy = Copy(tmp_path, (), reaching, SimpleNamespace(ask=lambda *_: answers.pop(0)))  # type: ignore[arg-type]  # a fake
    assert copy.notices(Mutant("room.py", "", 2, 2, "", "", DIFFERENT), ROOM) == (outcome or "anew")
    assert not answers
    assert reaching.kills["t"] == (outcome == "killed")
