"""Draws mutants of the modules on which money and models depend, and tells which of them the tests notice.

    python -m tests.mutants [--seed N] [--count N] [--minutes N] [--only GLOB] [PYTEST ARGUMENT ...]

Works in a copy of the tree. The kinds take turns, so that rare ones (an exception that is let through) are met as often
as common ones. A test that fails of a mutant must pass in the unchanged copy, else it judges nothing. Ends with 1 when
a mutant survives; each is printed with its change, to be judged by hand: one that no test can tell from the original is
immaterial, for every other a test is missing.

Of the published tools mutmut (3.8) mutates only what functions do, so no table of constants, and draws no sample;
cosmic-ray (8.7) has one command of tests for all modules and changes the working tree itself; mutatest draws by seed,
and was last released in 2022. None lets an exception through, leaves a call out or loses an element of a table.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path

from harness.core import process
from harness.core.environment import variables
from tests.mutants.kinds import KINDS, Mutant, mutants
from tests.mutants.rooms import ROOMS, Room

TREE = Path(__file__).parents[2]
NOT_COPIED = shutil.ignore_patterns(".*_cache", ".git", ".hypothesis", ".tox", ".venv", "__pycache__", "*.egg-info")
TIMEOUT_S = 600.0
"""Longest that the tests of a room may take; a mutant that takes longer is noticed."""

_FAILED = re.compile(r"^(?:FAILED|ERROR) ([^\s\[]+)", re.MULTILINE)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def drawn(tree: Path, seed: int, only: str) -> list[tuple[Mutant, Room]]:
    """All mutants in the order of the draw: each kind in turn, shuffled inside a kind."""
    rng = random.Random(seed)
    kinds: dict[str, list[tuple[Mutant, Room]]] = {kind: [] for kind in KINDS}
    for room in ROOMS:
        for path in room.found(tree):
            if fnmatch(path, only):
                for mutant in mutants(path, (tree / path).read_text("utf-8"), rng):
                    kinds[mutant.kind].append((mutant, room))
    for found in kinds.values():
        rng.shuffle(found)
    return [one for turn in zip_longest(*kinds.values()) for one in turn if one is not None]


@dataclass(slots=True)
class Copy:
    """A copy of the tree, in which one mutant at a time stands."""

    tree: Path
    arguments: Sequence[str]
    passing: dict[str, bool] = field(default_factory=dict)
    """Tests that failed of a mutant: do they pass in the unchanged copy?"""

    def notices(self, mutant: Mutant, room: Room) -> str:
        """``killed``, ``timeout`` or ``survived``."""
        module = self.tree / mutant.path
        before = module.read_bytes()
        while True:
            left_out = [f"--deselect={test}" for test, passes in self.passing.items() if not passes]
            module.write_text(mutant.text, "utf-8", newline="")
            try:
                finished = self._pytest(*room.files(self.tree, mutant.path), *left_out)
            finally:
                module.write_bytes(before)
            if finished.timed_out:
                return "timeout"
            if not finished.status:
                return "survived"
            failed = _FAILED.search(finished.tail)
            if failed is None or self._passes(failed[1]):
                return "killed"

    def _passes(self, test: str) -> bool:
        if test not in self.passing:
            self.passing[test] = self._pytest(test).status == 0
            if not self.passing[test]:
                _say(f"fails unchanged, judges nothing: {test}")
        return self.passing[test]

    def _pytest(self, *arguments: str) -> process.Finished:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-m", "not slow", "-p", "no:cacheprovider"]
        environment = {**variables(), "PYTHONPATH": str(self.tree), "COLUMNS": "2000"}
        command += [*self.arguments, *arguments]
        return process.run(command, cwd=self.tree, environ=environment, timeout=TIMEOUT_S)


def judged(copy: Copy, chosen: Sequence[tuple[Mutant, Room]], until: float) -> Iterator[tuple[str, Mutant]]:
    """Each mutant with what became of it, a line for each, until the time is up."""
    for mutant, room in chosen:
        if time.monotonic() > until:
            break
        began = time.monotonic()
        outcome = copy.notices(mutant, room)
        change = " ".join(f"{mutant.before[:70]} -> {mutant.after[:70]}".split())
        seconds = time.monotonic() - began
        _say(f"{outcome:8} {seconds:4.0f} s  {mutant.path}:{mutant.line}  {mutant.kind}: {change}")
        yield outcome, mutant


def main() -> int:
    """Draw, judge, and count."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="another seed draws other mutants (1)")
    parser.add_argument("--count", type=int, default=80, help="mutants at most (80)")
    parser.add_argument("--minutes", type=float, default=35, help="begin none after so long (35)")
    parser.add_argument("--only", default="*", help="modules whose path fits this glob")
    options, arguments = parser.parse_known_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        tree = Path(scratch, "tree")
        shutil.copytree(TREE, tree, ignore=NOT_COPIED)
        chosen = drawn(tree, options.seed, options.only)[: options.count]
        results = list(judged(Copy(tree, arguments), chosen, began + options.minutes * 60))
    survivors = [mutant for outcome, mutant in results if outcome == "survived"]
    for mutant in survivors:
        _say(f"\nsurvived: {mutant.path}:{mutant.line}, {mutant.kind}\n- {mutant.before}\n+ {mutant.after}")
    killed = len(results) - len(survivors)
    _say(
        f"\nseed {options.seed}: {killed} of {len(results)} noticed ({100 * killed / max(len(results), 1):.1f} %), "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
