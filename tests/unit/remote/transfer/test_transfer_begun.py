"""Bytes that a box says it has of a file are gone on from only when they can be of that file."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.ids import Sha256
from harness.remote.transfer.upload import _begun, _File


@pytest.mark.parametrize(
    ("staged", "begun"),
    [(0, 0), (1, 1), (9, 9), (10, 10), (11, 0), (-1, 0), (True, 0), (9.0, 0), ("9", 0), (None, 0), ([9], 0)],
)
def test_only_a_count_of_its_own_bytes_is_gone_on_from(staged: object, begun: int) -> None:
    assert _begun(staged, _File("a.bin", Path("a.bin"), 10, Sha256("00" * 32))) == begun
