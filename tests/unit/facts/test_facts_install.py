"""What the look at an installed box asks it, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement

from harness.core.answers import Packages, Ran, Terminals
from harness.core.observed import CouldNotLook, seen
from harness.core.questions import Answers, Command, PackagesOf, Question, TmuxSessions
from harness.facts import install
from harness.facts.install import Libraries, Requirements, Unsatisfied
from tests.support.facts import sound_job

REQUIREMENTS = """\
# what the training needs
trl>=1.16  # SFTConfig

peft==0.18.0
pywin32>=300; sys_platform == "win32"
uvloop; sys_platform == "linux"
"""
IMPORTED = 'warming up\nIMPORTS {"versions": {"torch": "2.13.0"}, "cuda": true, "devices": ["H100"]}\n'


@dataclass(slots=True)
class Box:
    """A box that answers, and remembers what it was asked."""

    imports: Ran = field(default_factory=lambda: Ran(0, IMPORTED))
    asked: list[Question[Any]] = field(default_factory=list)
    timeout: float = 0.0

    def probe(self, questions: Sequence[Question[Any]], *, timeout: float) -> Answers:
        self.asked, self.timeout = list(questions), timeout
        return Answers({question: seen(self._answer(question)) for question in questions})

    def _answer(self, question: Question[Any]) -> Any:
        if isinstance(question, PackagesOf):
            return Packages("3.11.9", {"trl": "1.20.0.dev0", "peft": "0.17.9", "uvloop": None})
        if isinstance(question, TmuxSessions):
            return Terminals(installed=True, sessions=())
        assert isinstance(question, Command)
        return self.imports if "-c" in question.argv else Ran(0, "READY")


def context(folder: Path, requirements: str | None, box: Box, **package: Any) -> Any:
    """A job whose package is staged with these requirements."""
    (folder / "package").mkdir()
    if requirements is not None:
        (folder / "package" / "requirements.txt").write_text(requirements)
    return SimpleNamespace(job=sound_job(package=package), directory=folder, host=lambda: box)


def test_what_the_box_has_is_held_against_what_the_package_needs(tmp_path: Path) -> None:
    box = Box()
    told = install.look(context(tmp_path, REQUIREMENTS, box, install=["/venv/bin/python", "-m", "pip"]))
    assert told.requirements.get() == Requirements(
        1, (Unsatisfied("peft==0.18.0", "0.17.9"), Unsatisfied('uvloop; sys_platform == "linux"', None))
    )
    assert told.libraries.get() == Libraries({"torch": "2.13.0"}, cuda=True, devices=("H100",))
    assert told.imports.get().out == IMPORTED
    assert told.readiness.get().out == "READY"
    assert told.multiplexer.get().installed
    (packages,) = (one for one in box.asked if isinstance(one, PackagesOf))
    imports, readiness = (one for one in box.asked if isinstance(one, Command))
    assert packages == PackagesOf("/venv/bin/python", ("trl", "peft", "uvloop"))
    assert (imports.argv[0], imports.argv[3:]) == ("/venv/bin/python", ("peft", "trl"))
    assert readiness.argv == sound_job().package.readiness
    assert box.timeout >= imports.timeout + readiness.timeout


def test_a_package_that_has_no_readiness_command_runs_none(tmp_path: Path) -> None:
    box = Box()
    told = install.look(context(tmp_path, REQUIREMENTS, box, readiness=[], install=[]))
    assert [one.argv[0] for one in box.asked if isinstance(one, Command)] == ["python3"]
    assert told.readiness.problem == "the box was not asked: command"


def test_without_readable_requirements_all_libraries_are_imported(tmp_path: Path) -> None:
    box = Box()
    told = install.look(context(tmp_path, None, box))
    assert "requirements.txt" in (told.requirements.problem or "")
    (imports, _) = (one for one in box.asked if isinstance(one, Command))
    assert imports.argv[3:] == ("transformers", "peft", "trl", "datasets")
    assert told.libraries.value is not None


def test_a_line_that_is_no_requirement_is_named(tmp_path: Path) -> None:
    with pytest.raises(CouldNotLook, match=r"requirements\.txt: cannot read '-r other\.txt': "):
        install.wanted(context(tmp_path, "trl>=1.16\n-r other.txt\n", Box()))


@pytest.mark.parametrize(
    ("required", "there", "satisfied"),
    [
        ("trl>=1.16", "1.16", True),
        ("trl>=1.16", "1.16.0.dev1", False),
        ("trl>=1.16", "1.17.0.dev1", True),
        ("trl>=1.16", "1.15", False),
        ("trl", "0.1", True),
        ("trl", None, False),
    ],
)
def test_a_requirement_is_met_by_its_version_alone(required: str, there: str | None, satisfied: bool) -> None:
    told = install.held_against((Requirement(required),), Packages("3.11.9", {"trl": there}))
    assert told == (Requirements(1, ()) if satisfied else Requirements(0, (Unsatisfied(required, there),)))


@pytest.mark.parametrize(
    "ran", [Ran(1, IMPORTED, "Segmentation fault"), Ran(0, "", "nothing said"), Ran(139, "", "core dumped")]
)
def test_an_import_that_failed_or_said_nothing_tells_no_library(ran: Ran, tmp_path: Path) -> None:
    told = install.look(context(tmp_path, REQUIREMENTS, Box(ran))).libraries
    assert told.problem == f"the import ended with status {ran.status}: {ran.err}"
