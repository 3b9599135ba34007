"""The controller's side: hears every report, decides the gates, sets the exit status, writes the evidence."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.core import environment
from harness.core.ids import new_nonce
from harness.core.verdict import Verdict, worst
from harness.gates.evidence import GateResult, told_once
from harness.plugin.session import Judging
from harness.plugin.verdicts import in_words, result_of
from harness.plugin.writing import junit_xml, summary_markdown, verdicts_json, workflow_commands

WORKER_FACTS = "harness_facts"
_NOT_JUDGED = {
    pytest.ExitCode.INTERRUPTED: "pytest was interrupted",
    pytest.ExitCode.INTERNAL_ERROR: "pytest failed inside",
    pytest.ExitCode.USAGE_ERROR: "pytest was called wrongly",
}


@dataclass(slots=True, eq=False)  # pytest keeps plugins in sets
class Gatekeeping:
    """A gate is open when the passed ids are the required ones; pytest's own exit status is only a hint."""

    judging: Judging
    config: pytest.Config
    gates: list[GateResult] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    session: pytest.Session | None = None
    unwritten: str = ""
    resume: str = ""
    """The word with which GitHub, told to obey nothing that is printed, begins to again; empty once it was said."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Remember the session: its exit status is to be set. Its first line says what is no look at the world."""
        self.session = session
        if environment.on_github():
            self.resume = new_nonce()
            self._say(f"::stop-commands::{self.resume}")
        self._say_recorded()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Hand the facts to an xdist worker, by path: one look, however many workers."""
        node.workerinput[WORKER_FACTS] = {stage: str(path) for stage, path in self.judging.paths.items()}

    def pytest_report_header(self) -> list[str]:
        """The jobs that are judged."""
        return [f"harness: job {facts.job.name}, stage {stage}" for stage, facts in self.judging.facts.items()]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst that a check said in any of its phases; what another one has told is not printed again."""
        result = result_of(report)
        if result is None:
            return
        said = self.judging.results.setdefault(result.stage, {})
        known = said.get(result.id)
        if known is None or worst((known.verdict, result.verdict)) is not known.verdict:
            said[result.id] = result
            told = told_once(said.values())[list(said).index(result.id)]
            if told is not said[result.id]:
                report.longrepr = in_words(told)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Decide, after every worker has reported."""
        if exitstatus in _NOT_JUDGED:
            self.judging.problems.append(_NOT_JUDGED[pytest.ExitCode(exitstatus)])
        seconds = time.monotonic() - self.began
        self.gates = [self.judging.gate(stage, seconds) for stage in self.judging.facts]
        self._hold(session)
        try:
            self._write()
        except OSError as error:
            self.unwritten = str(error)
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR

    def pytest_unconfigure(self) -> None:
        """Once more, behind every hook of the session: none of them turns a held gate's status into success."""
        if self.session is not None:
            self._hold(self.session)
            self._say_recorded()
        self._resume()

    def _say_recorded(self) -> None:
        """Said before everything else and after it: an old look is easily taken for a new one."""
        for line in (*self.judging.notes, *self.judging.recorded.values()):
            self._say(line, yellow=True)

    def _resume(self) -> None:
        if self.resume:
            self._say(f"::{self.resume}::")
            self.resume = ""

    def _say(self, line: str, **look: bool) -> None:
        terminal = self.config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None:
            terminal.write_line(line, **look)

    def _hold(self, session: pytest.Session) -> None:
        opened = bool(self.gates) and all(gate.verdict is Verdict.PASS for gate in self.gates)
        if not opened and session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _write(self) -> None:
        if self.config.option.verdicts:
            self.config.option.verdicts.write_bytes(verdicts_json(self.gates, self.judging))
        if told := getattr(self.config.option, "xmlpath", None):  # over pytest's own, which knows failures only
            Path(os.path.expandvars(told)).expanduser().write_bytes(junit_xml(self.gates, self.judging))
        if summary := environment.github_step_summary():
            with summary.open("a", encoding="utf-8") as out:
                out.write(summary_markdown(self.gates, self.judging))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line a gate; what keeps it shut below it."""
        for gate in self.gates:
            passed = sum(result.verdict is Verdict.PASS for result in gate.results)
            opened = gate.verdict is Verdict.PASS
            word = "OPEN" if opened else f"HELD ({gate.verdict.name})"
            line = f"gate {gate.stage}: {word}, {passed} of {len(gate.required)} checks passed"
            terminalreporter.write_line(line, green=opened, red=not opened)
            for check in gate.missing:
                terminalreporter.write_line(f"  UNKNOWN {check}: it did not report", yellow=True)
            for problem in gate.problems:
                terminalreporter.write_line(f"  UNKNOWN {problem}", yellow=True)
        if self.unwritten:
            terminalreporter.write_line(f"the verdicts could not be written: {self.unwritten}", red=True)
        if environment.on_github():
            self._resume()
            for line in workflow_commands(self.gates, self.config.option.artifact or self.config.option.bundle):
                terminalreporter.write_line(line)
