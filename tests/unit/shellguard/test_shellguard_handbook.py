"""The operating rules are generated from the command guard and the checks, and the documents say the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.rules import app
from harness.core.errors import BadInput
from harness.core.lifecycle import Stage
from harness.gates import plan
from harness.shellguard import handbook
from harness.shellguard.handbook import CheckClaim, as_markdown, claims, put_into
from harness.shellguard.rules import RULES

ROOT = Path(__file__).parents[3]
PLACES = {name: ROOT / name.replace("vastai_llm_training", "training_pkg") for name in handbook.READING}
WRITTEN = [path for name, path in PLACES.items() if "README" not in name and "SPEED" not in name]


def test_every_rule_and_every_check_is_told() -> None:
    told = as_markdown(claims(plan.FOLDER))
    for rule in RULES:
        assert f"**{rule.what}**" in told
        assert rule.instead in told
    for claim in claims(plan.FOLDER):
        assert f"- `{claim.check}`: {claim.says}" in told


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_the_rules_in_the_documents_are_the_rules(path: Path) -> None:
    document = path.read_text(encoding="utf-8")
    told = put_into(document, as_markdown(claims(plan.FOLDER)))
    assert document == told, f"harness rules --write {path.relative_to(ROOT)}"


@pytest.mark.parametrize("name", PLACES)
def test_each_document_to_be_read_states_the_order(name: str) -> None:
    text = PLACES[name].read_text(encoding="utf-8")
    places = [text.find(f"`{one}`") for one in handbook.READING]
    assert -1 < places[0] < places[1] < places[2] < places[3]


def test_a_document_that_is_not_there_is_begun(tmp_path: Path) -> None:
    path = tmp_path / ".claude" / "rules" / "vastai-safety.md"
    ran = CliRunner().invoke(app, ["--write", str(path)])
    assert ran.exit_code == 0, ran.output
    assert path.read_text(encoding="utf-8") == PLACES[".claude/rules/vastai-safety.md"].read_text(encoding="utf-8")
    assert "up to date already" in CliRunner().invoke(app, ["--write", str(path)]).output


def test_claims_come_from_the_text_of_the_checks_and_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "check_own.py").write_text(
        'raise SystemExit("imported")\n\ndef check_mine(launch):\n    """The thing holds.\n\n    And more.\n    """\n',
        encoding="utf-8",
    )
    assert claims(tmp_path) == (CheckClaim(Stage.LAUNCH, "mine", "The thing holds."),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def check_mine(x):\n    pass\n", "no docstring"),
        ("def check_mine(", "cannot be read"),
        ("# \udcff", "cannot be read"),
        ("x = 1\n", "no checks"),
    ],
)
def test_a_check_without_a_claim_is_an_error(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "check_own.py").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(BadInput, match=says):
        claims(tmp_path)


def test_checks_that_cannot_be_opened_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "launch" / "check_own.py").mkdir(parents=True)
    with pytest.raises(BadInput, match="cannot be read"):
        claims(tmp_path)


@pytest.mark.parametrize(
    "text", ["", handbook.BEGIN, handbook.END + handbook.BEGIN, (handbook.BEGIN + handbook.END) * 2]
)
def test_a_document_without_its_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    document = tmp_path / "rules.md"
    document.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match="exactly one"):
        handbook.write(document, "new\n")
    assert document.read_text(encoding="utf-8") == text


def test_only_what_stands_between_the_markers_changes(tmp_path: Path) -> None:
    document = tmp_path / "rules.md"
    document.write_text(f"before\n{handbook.BEGIN}\nold\n{handbook.END}\nafter\n", encoding="utf-8")
    assert handbook.write(document, "new\n")
    assert document.read_text(encoding="utf-8") == f"before\n{handbook.BEGIN}\nnew\n{handbook.END}\nafter\n"
    assert not handbook.write(document, "new\n")


def test_a_document_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(BadInput, match="cannot be brought up to date"):
        handbook.write(tmp_path / "file" / "none.md", "new\n")
    (tmp_path / "file").write_bytes(b"\xff")
    with pytest.raises(BadInput, match="cannot be brought up to date"):
        handbook.write(tmp_path / "file", "new\n")


def test_the_command_prints_for_people_and_for_machines(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(app, []).output == as_markdown(claims(plan.FOLDER))
    data = json.loads(runner.invoke(app, ["--format", "json"]).output)
    assert {rule["id"] for rule in data["held"]} == {rule.id for rule in RULES}
    document = tmp_path / "rules.md"
    document.write_text(f"{handbook.BEGIN}\n{handbook.END}\n", encoding="utf-8")
    assert runner.invoke(app, ["--write", str(document)]).exit_code == 0
    assert RULES[0].what in document.read_text(encoding="utf-8")


def test_a_folder_of_checks_where_it_is_typed_hides_none_of_ours(tmp_path: Path) -> None:
    theirs = tmp_path / "checks" / "teardown" / "check_own.py"
    theirs.parent.mkdir(parents=True)
    (tmp_path / "checks" / "__init__.py").touch()
    theirs.write_text('def check_own():\n    """Not ours."""\n', encoding="utf-8")
    command = [sys.executable, "-m", "harness", "rules"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert ran.stdout.decode() == as_markdown(claims(plan.FOLDER))
