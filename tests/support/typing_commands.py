"""Types commands of ``harness`` in this process, as a person would."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from harness.cli import entry

Typed = Callable[..., tuple[int, str, str]]
"""Words behind ``harness``: the exit code, standard output, standard error."""


def typing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """A keyboard; a traceback is never an answer."""

    def typed(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *words])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err + said.out
        return int(ended.value.code or 0), said.out, said.err

    return typed
