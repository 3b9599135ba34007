"""Verdicts on the lessons: what an outcome says of a claim, the newest ones, and the words that cite them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final

from harness.core import shipped
from harness.core.errors import BadInput
from harness.core.text import printable, table_cell
from harness.lessons.table import BY_NAME, LESSONS, Lesson, forbidding

FILE: Final = "lessons.json"
"""Of the training package: it tells its verdicts on the box, and the harness reads the same file here."""

_SHOWN: Final = ("torch", "transformers", "trl", "peft", "accelerate", "deepspeed")


class LessonStanding(StrEnum):
    """State of a lesson on the versions that are installed."""

    BROKEN = "still broken"
    WORKS = "works now"
    OTHER = "silently does something else"
    UNTRIED = "cannot be tested here"


@dataclass(frozen=True, slots=True)
class LessonVerdict:
    """LessonStanding of one lesson, and the error as seen, what it did instead, or why it could not be tried."""

    standing: LessonStanding
    seen: str


@dataclass(frozen=True, slots=True)
class Tried:
    """All lessons that were tried in one go: the day (UTC), where, the versions, the verdict by lesson."""

    day: str
    place: str
    versions: Mapping[str, str]
    verdicts: Mapping[str, LessonVerdict]

    @property
    def libraries(self) -> str:
        """Versions that matter, in one line."""
        return ", ".join(f"{name} {self.versions[name]}" for name in _SHOWN if name in self.versions)


def judge(lesson: Lesson, outcome: Mapping[str, Any]) -> LessonVerdict:
    """Verdict on a lesson by how its experiment ended.

    A failure in other words than the lesson's tells nothing of it: the libraries may have renamed an option.
    """
    ended, said = outcome.get("ended"), printable(str(outcome.get("said", "")), 600)
    if ended == "worked":
        return LessonVerdict(LessonStanding.WORKS, "")
    if ended == "differs":
        return LessonVerdict(LessonStanding.OTHER, said)
    if ended == "raised" and lesson.symptom and lesson.symptom.lower() in said.lower():
        return LessonVerdict(LessonStanding.BROKEN, _first_sentence(said))
    reason = f"it fails, in other words than the lesson's: {_first_sentence(said)}" if ended == "raised" else said
    return LessonVerdict(LessonStanding.UNTRIED, reason)


def _first_sentence(said: str) -> str:
    return re.split(r"(?<=[.]) (?=[A-Z1-9])|\n", said, maxsplit=1)[0][:300]


def to_json(tried: Tried) -> bytes:
    """The file's bytes. A version is one text, for a key "deepspeed" would be taken for that engine's configuration."""
    versions = [f"{name} {version}" for name, version in tried.versions.items()]
    return (json.dumps({**asdict(tried), "versions": versions}, indent=1, ensure_ascii=False) + "\n").encode()


def from_json(data: bytes) -> Tried:
    """Reads ``to_json``; raises BadInput for anything else. Verdicts on unknown lessons are left out."""
    try:
        told = json.loads(data)
        verdicts = {
            name: LessonVerdict(LessonStanding(one["standing"]), printable(str(one["seen"]), 600))
            for name, one in told["verdicts"].items()
            if name in BY_NAME
        }
        day, place = printable(str(told["day"]), 20), printable(str(told["place"]), 200)
        versions = dict(printable(str(one), 60).split(" ", 1) for one in told["versions"])
        return Tried(day, place, versions, verdicts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"this is no file of lessons: {error}", remedy=f"harness lessons --write {FILE}") from error


@cache
def latest() -> Tried | None:
    """Newest verdicts: those of the package that came with this harness; None where its file is missing or damaged."""
    try:
        return from_json((Path(shipped.folder("training_pkg")) / FILE).read_bytes())
    except (OSError, BadInput):
        return None


def behind(*found: str) -> str:
    """Each lesson by which what was found is refused, once, with the newest verdict; empty where there is none."""
    lessons = dict.fromkeys(lesson for what in found if (lesson := forbidding(what)) is not None)
    return "".join(f" [lesson {told(lesson, latest())}]" for lesson in lessons)


def told(lesson: Lesson, tried: Tried | None) -> str:
    """A lesson by its name with its newest verdict, in a few words."""
    verdict = tried.verdicts.get(lesson.name) if tried else None
    if tried is None or verdict is None:
        return f"{lesson.name}: not tried yet"
    seen = f": {verdict.seen}" if verdict.seen else ""
    return f"{lesson.name}, {verdict.standing} on {tried.day} with {tried.libraries}, {tried.place}{seen}"


PAGE: Final = """\
# The lessons, tried again

The operating rules forbid ways of training that once lost money. Versions move, so each claim is an experiment on a
tiny model: `harness lessons` tries them with the libraries that are installed, `harness lessons --job JOB` on a job's
box before its training, and `harness lessons --latest` shows what is recorded. A refusal of preflight, of the launch
gate or of the package itself names its lesson and the newest verdict on it. The default stays what the rules demand,
whatever the verdicts say: two processes on a CPU are not eight GPUs.

**still broken**: it fails in the words of the lesson. **works now**: it trained, and every `lora_B` moved. **silently
does something else**: no error, and not what was asked. **cannot be tested here**: the reason stands beside it; a
failure in other words than the lesson's is one, for it may have another cause.

"""


def page(tried: Tried) -> str:
    """The whole of docs/lessons.md."""
    again = "Generated: `harness lessons --latest --write docs/lessons.md`, after `--write training_pkg/lessons.json`."
    return f"{PAGE}{as_markdown(tried)}\n{again}\n"


def as_markdown(tried: Tried | None) -> str:
    """Table of every lesson."""
    lines = [] if tried is None else [f"Tried on {tried.day}, {tried.place}: {tried.libraries}.", ""]
    lines += ["| lesson | configuration | claim | expected, word for word | verdict |", "|---|---|---|---|---|"]
    for one in LESSONS:
        verdict = (tried.verdicts.get(one.name) if tried else None) or LessonVerdict(
            LessonStanding.UNTRIED, "not tried yet"
        )
        seen = f": {_cell(verdict.seen)}" if verdict.seen else ""
        claim = f"{_cell(one.claim)} ({one.source})"
        cells = (f"`{one.name}`", _cell(one.configuration), claim, _cell(one.symptom), f"**{verdict.standing}**{seen}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(said: str) -> str:
    return table_cell(said).replace("<", "&lt;")
