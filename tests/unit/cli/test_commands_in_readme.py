"""The README's table of commands names every command, in the order of ``harness --help``."""

from __future__ import annotations

import re
from pathlib import Path

from harness.cli.main import COMMANDS

README = Path(__file__).parents[3] / "README.md"


def test_the_readme_names_every_command_in_the_order_of_help() -> None:
    told = re.findall(r"^\| `harness ([a-z]+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert list(dict.fromkeys(told)) == list(COMMANDS)
