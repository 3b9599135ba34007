"""Draws mutants of the modules on which money and models depend, and tells which of them the tests notice.

    python -m tests.mutants [--seed N] [--count N] [--minutes N] [--only GLOB] [--jobs N] [--watched FOLDER]
                            [PYTEST ARGUMENT ...]

Works in copies of the tree, one a core. One run of the rooms' tests under coverage.py tells which of them run through
which line: these judge a mutant, first those that noticed one before, then the short ones; ``--watched`` keeps what
that run saw. They are asked in a fork of a pytest that has read them all; a mutant that passes there is asked of one
that reads everything anew, the mutant too.
The kinds take turns, so that rare ones (an exception that is let through) are met as often as common ones. A test that
fails of a mutant must fail of it once more, alone, and pass in the unchanged copy, else it judges nothing. Tests that
do not end, or end without a word, notice a mutant where the unchanged copy ends in time and well; else (a busy machine,
no memory) the mutant is *unjudged*, and counts neither way. Ends with 1 when a mutant survives; each is printed with
its change, to be judged by hand: one that no test can tell from the original is immaterial, for every other a test is
missing. Words for people, and bounds that are one more or less, are left as they are.

Of the published tools mutmut (3.8) mutates only what functions do, so no table of constants, and draws no sample;
cosmic-ray (8.7) has one command of tests for all modules and changes the working tree itself; mutatest draws by seed,
and was last released in 2022. None lets an exception through, leaves a call out or loses an element of a table.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path
from queue import SimpleQueue

from harness.core import process
from harness.core.environment import variables
from tests.mutants import warm
from tests.mutants.kinds import KINDS, Mutant, mutants
from tests.mutants.reaching import Reaching
from tests.mutants.rooms import ROOMS, Room
from tests.mutants.warm import Warm
from tests.mutants.watched import CHOSEN, WATCHED

TREE = Path(__file__).parents[2]
NOT_COPIED = shutil.ignore_patterns(".*_cache", ".git", ".hypothesis", ".tox", ".venv", "__pycache__", "*.egg-info")
TIMEOUT_S = 600.0
"""Longest that a mutant's tests may take; without it they take a third of it at most."""
_WARM_S = 20.0
"""What a fork may take beyond thrice the seconds that its tests took while they were watched."""

_PYTEST = (sys.executable, "-m", "pytest", "-q", "--tb=no", "-m", "not slow", "-p", "no:cacheprovider")
_NOTHING_FAILED = (0, 5)  # all passed; all were left out
_TAIL = 1 << 16
"""Characters of what pytest says last: its rules fill the width that keeps its lines whole."""
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
    reaching: Reaching = field(default_factory=Reaching)
    warm: Warm | None = None
    passing: dict[str, bool] = field(default_factory=dict)
    """Tests that failed of a mutant: do they pass in the unchanged copy?"""

    def notices(self, mutant: Mutant, room: Room) -> str:
        """``killed``, ``timeout``, ``survived`` or ``unjudged``."""
        tests = self.reaching.tests(mutant)
        return self._warmly(mutant, tests) or self._anew(mutant, tests or room.files(self.tree, mutant.path))

    def _warmly(self, mutant: Mutant, tests: Sequence[str]) -> str:
        """``killed`` or ``timeout``, and nothing where the warm pytest does not tell."""
        if self.warm is None:
            return ""
        limit = _WARM_S + 3 * sum(map(self.reaching.seconds.__getitem__, tests))
        left = [test for test in tests if self.passing.get(test, True)]
        while left:
            with self._changed(mutant):
                outcome, failed = self.warm.ask(mutant.path, left, limit)
                again = outcome == warm.FAILED and failed and self.warm.ask(mutant.path, [failed], limit)[0]
            if outcome == warm.HUNG and self.warm.ask("", left, limit / 3)[0] == warm.PASSED:
                return "timeout"
            if not again:
                break
            if again == warm.FAILED and self.warm.ask("", [failed], limit)[0] == warm.PASSED:
                self.reaching.noticed(failed)
                return "killed"
            left.remove(failed)
        return ""

    def _anew(self, mutant: Mutant, tests: Sequence[str]) -> str:
        chance: set[str] = set()
        while True:
            left_out = [test for test, passes in self.passing.items() if not passes]
            without = [f"--deselect={test}" for test in (*left_out, *chance)]
            finished = self._with(mutant, *tests, *without)
            if finished.status in _NOTHING_FAILED and not finished.timed_out:
                return "survived"
            failed = None if finished.timed_out else _FAILED.search(finished.tail)
            if failed is None:
                verdict = "timeout" if finished.timed_out else "killed"
                return verdict if self._ends_well(*tests, *without) else "unjudged"
            if not self._passes(failed[1]):
                continue
            if self._with(mutant, failed[1]).status:
                self.reaching.noticed(failed[1])
                return "killed"
            _say(f"fails once and not again, judges nothing: {failed[1]}")
            chance.add(failed[1])

    def _with(self, mutant: Mutant, *arguments: str) -> process.Finished:
        with self._changed(mutant):
            return self._pytest(*arguments)

    @contextmanager
    def _changed(self, mutant: Mutant) -> Iterator[None]:
        module = self.tree / mutant.path
        before, stat = module.read_bytes(), module.stat()
        module.write_text(mutant.text, "utf-8", newline="")
        try:
            yield
        finally:
            module.write_bytes(before)
            os.utime(module, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # what was compiled of it holds again

    def _ends_well(self, *arguments: str) -> bool:
        """The unchanged copy passes, with time to spare."""
        began = time.monotonic()
        finished = self._pytest(*arguments)
        return not finished.status and not finished.timed_out and time.monotonic() - began < TIMEOUT_S / 3

    def _passes(self, test: str) -> bool:
        if test not in self.passing:
            # A module that cannot be read fails as a whole.
            self.passing[test] = self._pytest(test, *(() if "::" in test else ("--collect-only",))).status == 0
            if not self.passing[test]:
                _say(f"fails unchanged, judges nothing: {test}")
        return self.passing[test]

    def _pytest(self, *arguments: str) -> process.Finished:
        """Run tests by id, whole files, or both; many ids are handed over in a file, which tells their order too."""
        command = [*_PYTEST, "-x"]
        environment = {**_environment(self.tree), "COLUMNS": "2000"}
        chosen = [one for one in arguments if "::" in one and not one.startswith("-")]
        if len(chosen) > 1:
            environment[CHOSEN] = str(self.tree / ".chosen.json")
            Path(environment[CHOSEN]).write_text(json.dumps(chosen), "utf-8")
            files = dict.fromkeys(one.partition("::")[0] for one in chosen)
            arguments = (*files, *(one for one in arguments if one not in set(chosen)))
            command += ["-p", "tests.mutants.watched"]
        command += [*self.arguments, *arguments]
        return process.run(command, cwd=self.tree, environ=environment, timeout=TIMEOUT_S, tail=_TAIL)


def _environment(tree: Path) -> dict[str, str]:
    """Of a run in a tree, which need not hold this package."""
    return {**variables(), "PYTHONPATH": os.pathsep.join(map(str, (tree, TREE)))}


def _files(tree: Path, rooms: Sequence[Room]) -> list[str]:
    return sorted({file for room in rooms for file in room.files(tree, room.modules[0])})


def watch(tree: Path, rooms: Sequence[Room], folder: Path) -> None:
    """Run the rooms' tests once, and leave in the folder which lines each runs through."""
    began = time.monotonic()
    environment = {**_environment(tree), WATCHED: str(folder)}
    command = [*_PYTEST, "-p", "tests.mutants.watched", "-n", str(os.cpu_count()), *_files(tree, rooms)]
    finished = process.run(command, cwd=tree, environ=environment, timeout=3600.0, tail=2000)
    _say(f"{finished.tail.rstrip().rpartition(chr(10))[2]} (watched, {time.monotonic() - began:.0f} s)")


def judged(copies: Sequence[Copy], chosen: Sequence[tuple[Mutant, Room]], until: float) -> Iterator[tuple[str, Mutant]]:
    """Each mutant with what became of it, a line for each, until the time is up; each copy judges one at a time."""
    free = SimpleQueue[Copy]()
    for copy in copies:
        free.put(copy)

    def judge(one: tuple[Mutant, Room]) -> tuple[str, Mutant] | None:
        began = time.monotonic()
        if began > until:
            return None
        mutant, room = one
        copy = free.get()
        try:
            outcome = copy.notices(mutant, room)
        finally:
            free.put(copy)
        change = " ".join(f"{mutant.before[:70]} -> {mutant.after[:70]}".split())
        seconds = time.monotonic() - began
        _say(f"{outcome:8} {seconds:4.0f} s  {mutant.path}:{mutant.line}  {mutant.kind}: {change}")
        return outcome, mutant

    with ThreadPoolExecutor(len(copies)) as judges:
        yield from filter(None, judges.map(judge, chosen))


def main() -> int:
    """Draw, judge, and count."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="another seed draws other mutants (1)")
    parser.add_argument("--count", type=int, default=300, help="mutants at most (300)")
    parser.add_argument("--minutes", type=float, default=35, help="begin none after so long (35)")
    parser.add_argument("--only", default="*", help="modules whose path fits this glob")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants judged at once (one a core)")
    parser.add_argument("--watched", type=Path, help="what tests run through: kept here, and read where it is there")
    options, arguments = parser.parse_known_args()
    began = time.monotonic()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-")))
        chosen = drawn(TREE, options.seed, options.only)[: options.count]
        rooms = list({id(room): room for _, room in chosen}.values())
        trees = [scratch / str(number) for number in range(options.jobs)]
        for tree in trees:
            shutil.copytree(TREE, tree, ignore=NOT_COPIED)
        folder = options.watched or scratch / "watched"
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            watch(trees[0], rooms, folder)
        reaching = Reaching.read(folder, trees[0])
        copies = [Copy(tree, arguments, reaching) for tree in trees]
        for copy in copies if hasattr(os, "fork") else ():
            command = [*_PYTEST, *arguments, *_files(copy.tree, rooms)]
            copy.warm = stack.enter_context(closing(Warm(copy.tree, command, _environment(copy.tree))))
        if not all(copy.warm is None or copy.warm.is_ready() for copy in copies):
            raise SystemExit(f"the tests cannot be read: {shlex.join(_PYTEST)}")
        results = list(judged(copies, chosen, began + options.minutes * 60))
    survivors = [mutant for outcome, mutant in results if outcome == "survived"]
    for mutant in survivors:
        _say(f"\nsurvived: {mutant.path}:{mutant.line}, {mutant.kind}\n- {mutant.before}\n+ {mutant.after}")
    counted = [outcome for outcome, _ in results if outcome != "unjudged"]
    noticed = len(counted) - len(survivors)
    _say(
        f"\nseed {options.seed}: {noticed} of {len(counted)} noticed ({100 * noticed / max(len(counted), 1):.1f} %), "
        f"{len(results) - len(counted)} unjudged, {time.monotonic() - began:.0f} s"
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
