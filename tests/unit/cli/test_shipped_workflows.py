"""The workflow files that are shipped, and this repository's own, are what GitHub and GitLab publish as theirs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "examples" / "ci"
FILES = {
    SHIPPED / "github-actions.yml": "vendor.github-workflows",
    ROOT / ".github" / "workflows" / "ci.yml": "vendor.github-workflows",
    SHIPPED / "gitlab-ci.yml": "vendor.gitlab-ci",
}


def _judged(schema: str, file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_workflow_is_one_by_the_published_schema(file: Path) -> None:
    if not file.exists():  # a source distribution has no .github
        assert not (ROOT / ".git").exists()
        return
    said = _judged(FILES[file], file)
    assert said.returncode == 0, said.stdout


@pytest.mark.parametrize(("name", "old", "new"), [
    ("github-actions.yml", "runs-on:", "run-on:"),
    ("github-actions.yml", "  push:", "  pushed:"),
    ("gitlab-ci.yml", "when: always", "when: ever"),
])  # fmt: skip
def test_the_schema_sees_what_is_wrong(tmp_path: Path, name: str, old: str, new: str) -> None:
    text = (SHIPPED / name).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new), encoding="utf-8")
    assert _judged(FILES[SHIPPED / name], tmp_path / name).returncode == 1


def test_the_shipped_workflow_uses_the_actions_that_this_repository_uses() -> None:
    """Of the same versions: what is shipped is kept as new as what is run here."""
    own = ROOT / ".github" / "workflows" / "ci.yml"
    used = [dict(re.findall(r"uses: (\S+)@(\S+)", path.read_text("utf-8"))) for path in FILES if path.exists()]
    assert used[0]
    for name in used[0].keys() & {name for one in used[1:] for name in one}:
        assert {one[name] for one in used if name in one} == {used[0][name]}, (name, own)


def test_no_expression_stands_in_a_command() -> None:
    """GitHub pastes an expression into the script before a shell reads it: a name in it would be run."""
    for path in SHIPPED.glob("*.yml"):
        told = path.read_text(encoding="utf-8")
        commands = re.findall(r"run: (.*(?:\n {10,}.*)*)", told) + re.findall(r"script:((?:\n {4}.*)*)", told)
        assert commands
        assert not [command for command in commands if "${{" in command]
