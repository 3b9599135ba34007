"""Rows of a benchmark: this project's figure beside a rival's, and the bar that the ratio of the two has to meet."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

INSTALL = "pip install -e '.[benchmarks]'"
NOT_MET, ABSENT = 3, 4
"""Exit statuses of a benchmark: a bar was missed or not measured; nothing can be measured here."""


class Standing(StrEnum):
    """How a row stands to its bar."""

    MET = "met"
    MISSED = "missed"
    NOT_MEASURED = "not measured"
    NO_BAR = "no bar"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One comparison of two figures in ``unit``; less is better, and the bar is the most that ours / theirs may be.

    Without a rival it is a figure alone, to which no bar can be set.
    """

    what: str
    rival: str = ""
    ours: float | None = None
    theirs: float | None = None
    bar: float | None = None
    unit: str = "s"
    why: str = ""
    """Reason for which a figure is missing."""

    @property
    def ratio(self) -> float | None:
        """Ours / theirs; None when either was not measured."""
        return self.ours / self.theirs if self.ours is not None and self.theirs else None

    @property
    def standing(self) -> Standing:
        """A row without both figures is never met."""
        if not self.rival and self.bar is None and self.ours is not None:
            return Standing.NO_BAR
        if self.ratio is None:
            return Standing.NOT_MEASURED
        if self.bar is None:
            return Standing.NO_BAR
        return Standing.MET if self.ratio <= self.bar else Standing.MISSED

    @property
    def fails(self) -> bool:
        """True when the bar was missed, or could not be judged."""
        return self.bar is not None and self.standing is not Standing.MET

    def cells(self) -> tuple[str, ...]:
        """The row as the columns of HEADS."""
        figures = (f"{_short(figure)} {self.unit}" if figure is not None else "" for figure in (self.ours, self.theirs))
        standing = f"{self.standing}: {self.why}" if self.why else str(self.standing)
        return (self.what, self.rival, *figures, _short(self.ratio), _short(self.bar), standing)


HEADS = ("what", "rival", "ours", "rival's", "ratio", "bar", "standing")


def _short(figure: float | None) -> str:
    """Three significant digits; whole numbers in full."""
    if figure is None:
        return ""
    return f"{figure:.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; a bar or a line end inside a cell does not break it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in line) + " |\n" for line in lines)


def absent(error: ModuleNotFoundError) -> NoReturn:
    """End this benchmark: without this module it measures nothing."""
    unable(f"{error.name} is not installed: {INSTALL}")


def unable(why: str) -> NoReturn:
    """End this benchmark, which can measure nothing here."""
    print(why, file=sys.stderr)
    raise SystemExit(ABSENT)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="fewer rounds and smaller files: less is said, sooner")
    made.add_argument("--rows", type=Path, help="append each row to this file, as a line of JSON")
    return made


def run(options: argparse.Namespace, measure: Callable[[argparse.Namespace], Iterable[Row]]) -> NoReturn:
    """Print each row as soon as it is measured, then end: with 0 when every bar was met."""
    failed = False
    for row in measure(options):
        print("  ".join(filter(None, row.cells())), flush=True)
        failed |= row.fails
        if options.rows:
            with options.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(dataclasses.asdict(row)) + "\n")
    raise SystemExit(NOT_MET if failed else 0)


def read(path: Path) -> tuple[Row, ...]:
    """The rows that a benchmark left in its file; none when there is no file."""
    if not path.exists():
        return ()
    return tuple(Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())
