"""State of a pytest run that judges: its stages, their facts, and what has been collected and said so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.core.ids import CheckId
from harness.gates import plan
from harness.gates.evidence import CheckResult, GateResult, told_once
from harness.gates.facts_file import FactsFile, digest_of, read_facts
from harness.plugin.declaring import PREFIX


@dataclass(slots=True)
class Judging:
    """One run of checks over the facts of its stages."""

    facts: Mapping[str, FactsFile]
    paths: Mapping[str, Path]
    digests: Mapping[str, str]
    collected: dict[str, list[CheckId]] = field(default_factory=dict)
    declared: dict[str, list[CheckId]] = field(default_factory=dict)
    results: dict[str, dict[CheckId, CheckResult]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    recorded: Mapping[str, str] = field(default_factory=dict)
    """Age of the facts that stand in place of a look, in words, by stage."""
    notes: tuple[str, ...] = ()
    """Sentences about the run as a whole, beside those."""

    @classmethod
    def of(cls, paths: Mapping[str, Path]) -> Judging:
        """A run over facts files, by stage; raises BadInput when one cannot be read."""
        digests = {stage: digest_of(path) for stage, path in paths.items()}
        facts = {stage: read_facts(path) for stage, path in paths.items()}
        return cls(facts=facts, paths=paths, digests=digests)

    def gate(self, stage: str, seconds: float) -> GateResult:
        """Decision of a stage's gate, given everything that reported."""
        collected = self.collected.get(stage, [])
        whole = {_function(check) for check in collected}
        left_out = [check for check in self.declared.get(stage, []) if check not in whole]
        required = plan.required(stage, self.facts[stage].job, [*collected, *left_out])
        twice = sorted({check for check in collected if collected.count(check) > 1})
        problems = [f"two checks are named {check}" for check in twice]
        if not required:
            problems.append(f"no check is declared or found for stage {stage!r}")
        results = self.results.get(stage, {})
        return GateResult(
            stage=stage,
            plan_digest=plan.digest(stage, required),
            required=required,
            results=told_once(results[check] for check in required if check in results),
            problems=(*self.problems, *problems),
            seconds=seconds,
        )

    def stage_of(self, item: pytest.Item) -> str | None:
        """The judged stage that an item is a check of: its ``stage`` marker, else its folder's name."""
        named = item.path.name.startswith(PREFIX) and item.name.startswith(PREFIX)
        if not (named and isinstance(item, pytest.Function)):
            return None
        marker = item.get_closest_marker("stage")
        stage = str(marker.args[0]) if marker and marker.args else item.path.parent.name
        return stage if stage in self.facts else None


KEY = pytest.StashKey[Judging]()


def check_id(item: pytest.Item) -> CheckId:
    """A check's id: its function's name without the prefix."""
    return CheckId(item.name.removeprefix(PREFIX))


def _function(check: CheckId) -> CheckId:
    """The id without the parameters of one of its cases."""
    return CheckId(check.partition("[")[0])
