"""Words as a person types them: each shell takes them apart into the same words again."""

from __future__ import annotations

import shlex
import sys

import pytest

from harness.core.text import command_line


@pytest.mark.parametrize(
    ("words", "posix", "windows"),
    [
        (["harness", "run", "night.toml"], "harness run night.toml", "harness run night.toml"),
        (["a b.toml"], "'a b.toml'", '"a b.toml"'),
        ([r"C:\Users\K Lee\night.toml"], r"'C:\Users\K Lee\night.toml'", r'"C:\Users\K Lee\night.toml"'),
        (["C:\\jobs\\"], "'C:\\jobs\\'", "C:\\jobs\\"),
        ([""], "''", '""'),
    ],
)
def test_words_are_quoted_as_the_systems_shell_reads_them(words: list[str], posix: str, windows: str) -> None:
    assert command_line(words, windows=False) == posix
    assert command_line(words, windows=True) == windows
    assert shlex.split(posix) == words
    assert command_line(words) == (windows if sys.platform == "win32" else posix)
