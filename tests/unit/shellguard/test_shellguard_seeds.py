"""Every rule of the first user is kept by a check that says so, and no mark names a rule that there is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli.rules import app
from harness.core.errors import BadInput
from harness.core.lifecycle import ORDER, Stage
from harness.gates import plan
from harness.shellguard import seeds
from harness.shellguard.handbook import CheckClaim, claims
from tests.support.facts import check_functions

CLAIMS = claims(plan.FOLDER)


def _neither(traced: Mapping[seeds.SeedRule, tuple[CheckClaim, ...]]) -> list[str]:
    return [rule.rule for rule, kept in traced.items() if not kept and not rule.differs]


def test_every_rule_is_kept_by_a_check_or_says_why_not() -> None:
    assert _neither(seeds.trace(CLAIMS)) == []


def test_a_rule_with_neither_would_be_seen() -> None:
    silent = seeds.SeedRule(seeds.AGENT, "rule 6", "be kind")
    assert _neither({**seeds.trace(CLAIMS), silent: ()}) == ["rule 6"]
    assert _neither(seeds.trace(())) == [rule.rule for rule in seeds.RULES if not rule.differs]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("trust remote code", "no code of the hub runs"),
        ("image", "torch 2.6 and Python 3.11"),
        ("achieved", "not reproducible here"),
        ("2.5x", "not measured here; benchmarks/bench_gpu.py measures it where there is a GPU"),
    ],
)
def test_what_differs_is_said_with_its_reason(rule: str, said: str) -> None:
    (line,) = (line for line in seeds.as_markdown(seeds.trace(CLAIMS)).splitlines() if f"**{rule}**" in line)
    assert said in line.partition("differs: ")[2]


def test_no_rule_is_told_twice() -> None:
    names = [(rule.document, rule.rule) for rule in seeds.RULES]
    assert len(names) == len(set(names))


def test_the_marks_are_read_from_the_text_as_pytest_sees_them() -> None:
    seen: dict[str, set[Any]] = {
        name: {mark.args for mark in getattr(function, "pytestmark", ()) if mark.name == "seed"}
        for stage in ORDER
        for name, function in check_functions(stage)
    }
    assert {claim.check: set(claim.seeds) for claim in CLAIMS} == seen


def test_a_mark_that_names_no_rule_is_an_error() -> None:
    claim = CheckClaim(Stage.LAUNCH, "mine", "It holds.", ((seeds.AGENT, "rule 6"),))
    with pytest.raises(BadInput, match=r"launch/mine: no rule is named vastai-training-agent\.md, rule 6"):
        seeds.trace([claim])


@pytest.mark.parametrize("mark", ['seed("rule 3")', "seed", 'seed(DOCUMENT, "rule 3")', 'seed("a.md", 3)'])
def test_a_mark_that_cannot_be_read_is_an_error(tmp_path: Path, mark: str) -> None:
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "check_own.py").write_text(
        f'@pytest.mark.{mark}\ndef check_mine(launch):\n    """It holds."""\n', encoding="utf-8"
    )
    with pytest.raises(BadInput, match=r"check_own.py:1: a mark seed names a document and a rule in it"):
        claims(tmp_path)


def test_the_command_prints_each_rule_with_its_checks() -> None:
    told = CliRunner().invoke(app, ["--trace"]).output.splitlines()
    (rule,) = (line for line in told if "**rule 3**" in line)
    for check in ("preflight/dataset_counts", "upload/remote_dataset_counts", "launch/v2_forex_integration_logged"):
        assert f"`{check}`" in rule
    assert [line for line in told if line.startswith("## ")] == [f"## {seeds.AGENT}", f"## {seeds.SPEED}"]
