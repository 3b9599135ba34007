"""The changes that are made of a module, and what becomes of one that no test notices."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest

from harness.core.process import Finished
from tests.mutants import __main__ as running
from tests.mutants.__main__ import Copy, drawn
from tests.mutants.kinds import KINDS, Mutant, mutants
from tests.mutants.rooms import ROOMS, Room

CHANGED = {
    "if a < b: pass": [("comparison flipped", "(a <= b)")],
    "if a not in b: pass": [("comparison flipped", "(a in b)")],
    "if a is None or b: pass": [("comparison flipped", "(a is not None)"), ("and for or", "(a is None and b)")],
    "if not a: pass": [("not dropped", "(a)")],
    "f(ä, x)[1]": [("number off by one", "(1 + 1)")],
    "def f():\n    return a": [("another answer", "return False")],
    "def f():\n    return None": [("another answer", "return False")],
    "try: pass\nexcept (A, B.C): pass": [("exception let through", "(B.C,)")],
    "try: pass\nexcept A: pass": [],
    "os.fsync(file)": [("call left out", "pass")],
    "_WANTED = ('a b', 'c')": [("table's element", "('c',)"), ("table's element", "'c_'")],
    "WANTED: Final = {'a b': x, 'c d': y}": [("table's element", "{'c d': y}")],
    "def f(x: Literal['a', 'b']) -> tuple[int, 1]:\n    '''Say 1.'''\n    a = ('b', f'{1} {not x}')": [],
    "__all__ = ['a', 'b']": [],
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
    changed = Mutant("room.py", "", 2, "one < other", after, MODULE.replace("one < other", after))
    assert Copy(tmp_path, ()).notices(changed, ROOM) == outcome
    assert (tmp_path / "room.py").read_text("utf-8") == MODULE


ENDED, DIED, HUNG = Finished(0, ""), Finished(-9, ""), Finished(-15, "", timed_out=True)
FAILED = Finished(1, "FAILED test_room.py::test_least - assert 2 == 1\n")


@pytest.mark.parametrize(
    ("changed", "unchanged", "outcome"),
    [
        ([HUNG], [ENDED], "timeout"),
        ([HUNG], [HUNG], "unjudged"),
        ([DIED], [ENDED], "killed"),
        ([DIED], [DIED], "unjudged"),
        ([FAILED, FAILED], [ENDED], "killed"),
        ([FAILED, ENDED, ENDED], [ENDED], "survived"),  # once, by chance
        ([FAILED, ENDED], [FAILED], "survived"),
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
    assert Copy(tmp_path, ()).notices(Mutant("room.py", "", 2, "", "", DIFFERENT), ROOM) == outcome
    assert not changed
    assert not unchanged


def test_tests_that_take_long_without_a_mutant_prove_nothing_by_taking_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "room.py").write_text(MODULE, "utf-8")
    answers = [HUNG, ENDED]
    monkeypatch.setattr(Copy, "_pytest", lambda _self, *_: answers.pop(0))
    monkeypatch.setattr(running, "TIMEOUT_S", 0.0)
    assert Copy(tmp_path, ()).notices(Mutant("room.py", "", 2, "", "", DIFFERENT), ROOM) == "unjudged"
