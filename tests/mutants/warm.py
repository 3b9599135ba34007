"""A pytest that has read all tests once, and asks them of each mutant in a fork of itself: seconds become a blink.

The fork puts the changed module's functions in the place of those that were imported, runs the chosen tests up to the
first that fails, and ends. It sees nothing of what runs at an import (a table, a default), so a mutant that no test
notices here must be asked of a pytest that reads everything anew. Needs ``os.fork``.

``MUTANTS_ASKED`` holds the numbers of two pipes; a question and an answer are a line of JSON each.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import selectors
import signal
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

ASKED = "MUTANTS_ASKED"
PASSED, FAILED, HUNG, UNTOLD = "passed", "failed", "hung", "untold"
_MEMORY = 8 << 30
"""Bytes of address space that a fork may take: a loop without an end takes no more."""

_GRACE_S = 10.0


class Warm:
    """The client: one such pytest in a copy of the tree."""

    def __init__(self, tree: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
        asked, answers = os.pipe(), os.pipe()
        self._scratch = tempfile.TemporaryDirectory(prefix="mutants-")
        self._process = subprocess.Popen(
            [*command, "-p", "tests.mutants.warm", f"--basetemp={self._scratch.name}/tests"],
            cwd=tree,
            env={**environment, ASKED: f"{asked[0]} {answers[1]}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(asked[0], answers[1]),
        )
        os.close(asked[0])
        os.close(answers[1])
        self._questions = os.fdopen(asked[1], "w", encoding="utf-8")
        self._answers = os.fdopen(answers[0], encoding="utf-8")

    def is_ready(self) -> bool:
        """Wait until it has read all tests, before which no module may be changed."""
        return self.ask("", [], 60.0)[0] == PASSED

    def ask(self, module: str, tests: Sequence[str], seconds: float) -> tuple[str, str]:
        """What becomes of the tests with the module as it lies in the copy now ("": as it was), and which one failed.

        ``passed``, ``failed``, ``hung`` (for so many seconds), or ``untold``: this cannot be seen here.
        """
        try:
            self._questions.write(json.dumps([module, list(tests), seconds]) + "\n")
            self._questions.flush()
            outcome, test = json.loads(self._answers.readline())
        except (OSError, ValueError):
            return UNTOLD, ""
        return outcome, test

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._questions.close()
        self._process.wait()
        self._answers.close()
        self._scratch.cleanup()


class Forking:
    """The plugin: waits for questions where pytest would run its tests."""

    def __init__(self, asked: int, answers: int) -> None:
        self._asked, self._answers = asked, answers
        self._items: dict[str, pytest.Item] = {}
        self._functions: dict[str, list[FunctionType]] = defaultdict(list)
        self._before: dict[str, dict[str, list[CodeType]]] = {}
        self._kept: list[Any] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Answer until nobody asks."""
        root = session.config.rootpath
        self._items = {item.nodeid: item for item in session.items}
        for one in gc.get_objects():
            if type(one) is FunctionType and one.__code__.co_filename.startswith(f"{root}{os.sep}"):
                self._functions[one.__code__.co_filename].append(one)
        self._before = {path: _codes(path) for path in self._functions if Path(path).is_file()}
        self._kept = [one for one in gc.get_objects() if type(one) is functools._lru_cache_wrapper]
        gc.collect()
        gc.freeze()
        with os.fdopen(self._asked, encoding="utf-8") as asked, os.fdopen(self._answers, "w", encoding="utf-8") as said:
            for line in asked:
                module, tests, seconds = json.loads(line)
                path = str(root / module) if module else ""
                said.write(json.dumps(self._answer(session, path, tests, seconds)) + "\n")
                said.flush()
        return True

    def _answer(self, session: pytest.Session, path: str, tests: list[str], seconds: float) -> tuple[str, str]:
        mine, its = os.pipe()
        child = os.fork()
        if not child:
            answer = (UNTOLD, "")
            try:
                os.setsid()
                _bound()
                if not path or self._exchanged(path):
                    answer = _first_failure(session, [self._items[test] for test in tests if test in self._items])
            finally:
                os.write(its, json.dumps(answer).encode())
                os._exit(0)
        os.close(its)
        with os.fdopen(mine, "rb") as pipe, selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            text = pipe.read() if selector.select(seconds) else None
            if text is None:
                os.kill(child, signal.SIGINT)  # its fixtures may end what they have started
                selector.select(_GRACE_S)
            with contextlib.suppress(OSError):
                os.killpg(child, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        if text is None:
            return HUNG, ""
        outcome, test = json.loads(text or b'["failed", ""]')  # it died without a word
        return outcome, test

    def _exchanged(self, path: str) -> bool:
        """Whether a function of the module is another now; who imports it only later reads what lies there."""
        if path not in self._functions:
            return True
        for one in self._kept:
            one.cache_clear()
        before, after = self._before.get(path, {}), _codes(path)
        exchanged = False
        for function in self._functions.get(path, []):
            name, line = function.__code__.co_qualname, function.__code__.co_firstlineno
            pairs = dict(zip_longest(before.get(name, []), after.get(name, [])))
            # A code that has run does not equal its like: the interpreter wrote into it.
            old = next((code for code in pairs if code and code.co_firstlineno == line), None)
            new = pairs.get(old)
            if old is None or new is None:
                return False
            if old.replace(co_firstlineno=0) != new.replace(co_firstlineno=0):
                function.__code__ = new
                exchanged = True
        return exchanged


def _codes(path: str) -> dict[str, list[CodeType]]:
    """Code of a module's functions by name, in the order of the text."""
    found = defaultdict(list)
    for code in _inside(compile(Path(path).read_text("utf-8"), path, "exec", dont_inherit=True)):
        found[code.co_qualname].append(code)
    return found


def _inside(code: CodeType) -> Iterator[CodeType]:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield one
            yield from _inside(one)


def _first_failure(session: pytest.Session, items: list[pytest.Item]) -> tuple[str, str]:
    failed: list[str] = []

    class Reports:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                failed.append(report.nodeid)

    session.config.pluginmanager.register(Reports())
    try:
        for item, following in zip_longest(items, items[1:]):
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if failed:
                break
    finally:
        session._setupstate.teardown_exact(None)
    return (FAILED, failed[0]) if failed else (PASSED, "")


def _bound() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def pytest_configure(config: pytest.Config) -> None:
    """Where somebody asks."""
    if pipes := os.environ.get(ASKED):
        config.pluginmanager.register(Forking(*map(int, pipes.split())))
