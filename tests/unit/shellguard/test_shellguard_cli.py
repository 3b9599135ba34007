"""``harness guard`` on the command line: what it judges, its exit codes, and its words."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.cli.guard import app
from harness.core.errors import BadInput, Refused


def _guard(*args: str, input_: str | None = None) -> Result:
    return CliRunner().invoke(app, args, input=input_)


def test_a_harmless_command_is_allowed() -> None:
    done = _guard("--", "vastai", "show", "instances")
    assert (done.exit_code, done.output) == (0, "allow\n")


def test_a_guarded_command_is_refused_with_its_remedy() -> None:
    done = _guard("--", "vastai", "destroy", "instance", "123", "-y")
    assert isinstance(done.exception, Refused)
    assert done.exception.exit_code == 5
    assert "harness destroy JOB" in done.exception.remedy


def test_a_command_worth_a_look_is_allowed_with_a_warning() -> None:
    done = _guard("--", "vastai", "stop", "instance", "123")
    assert done.exit_code == 0
    assert "Look twice" in done.stderr


def test_one_word_with_blanks_is_a_line_of_the_shell_named() -> None:
    assert isinstance(_guard("--", "ls; vastai destroy instance 5").exception, Refused)
    line = "vas`Tai destro`y instance 5"
    assert isinstance(_guard("--shell", "powershell", "--", line).exception, Refused)
    assert _guard("--shell", "bash", "--", "echo 'vastai destroy instance 5'").exit_code == 0


@pytest.mark.parametrize("name", ["install", "uninstall", "judge"])
def test_behind_the_dashes_no_name_is_a_command_of_ours(name: str) -> None:
    done = _guard("--", name, "-m", "755", "a", "b")
    assert (done.exit_code, done.output) == (0, "allow\n")


def test_bad_usage() -> None:
    assert isinstance(_guard().exception, BadInput)
    assert _guard("--").exit_code == 2
    assert _guard("vastai", "destroy").exit_code == 2
    assert _guard("--shell", "csh", "--", "ls x").exit_code == 2


def test_the_hook_answers_on_standard_output() -> None:
    done = _guard("--hook", input_='{"tool_name": "Bash", "tool_input": {"command": "vastai destroy instance 5"}}')
    assert done.exit_code == 0
    assert '"deny"' in done.stdout
    assert _guard("--hook", input_="{").exit_code == 2


def test_install_says_how_to_stand_first_on_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    done = _guard("install", "--directory", str(folder))
    assert done.exit_code == 0
    assert f"export PATH='{folder}':\"$PATH\"" in done.output
    assert f"$env:Path = '{folder};' + $env:Path" in done.output
    assert "removed" in _guard("uninstall", "--directory", str(folder)).output
    assert "nothing was removed" in _guard("uninstall", "--directory", str(folder)).output
