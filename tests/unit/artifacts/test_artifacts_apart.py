"""A file that shrinks while it is judged ends a process that was made for it, and is UNKNOWN."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.artifacts import apart
from harness.core.errors import BadInput, GateUnknown
from harness.core.verdict import Verdict
from tests.support import shrinking


@pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be shortened there")
def test_a_file_that_shrinks_under_the_look_takes_nobody_down(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"x" * 100_000)
    with pytest.raises(GateUnknown, match="was ended by signal"):
        apart.findings(shrinking.shortened, tmp_path / "model.gguf")


def test_what_is_given_and_found_crosses_unchanged(tmp_path: Path) -> None:
    (finding,) = apart.findings(shrinking.told, tmp_path, None, 1.5)
    assert finding.claim == repr((tmp_path, None, 1.5))
    assert (finding.verdict, finding.seen, finding.remedy) == (Verdict.UNKNOWN, "\udc80é", "mend it")


def test_bad_input_is_said_as_it_is_said_here() -> None:
    with pytest.raises(BadInput, match="no such file") as refused:
        apart.findings(shrinking.refused, "no such file")
    assert refused.value.remedy == "another"


def test_an_error_of_our_own_is_no_finding() -> None:
    with pytest.raises(GateUnknown, match=r"failed \(1\): ZeroDivisionError: oh"):
        apart.findings(shrinking.broken)
