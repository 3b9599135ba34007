"""Who holds a lock, in words, and a place where nothing can be locked."""

from __future__ import annotations

import errno
from pathlib import Path

import filelock
import pytest

from harness.core.errors import StoreFailed
from harness.ledger import locks
from tests.support.fake_clock import FakeClock


@pytest.mark.parametrize(
    "written",
    [b"", b"{", b"3", b"{}", b'{"pid": 1}', b'{"pid": "x", "host": "h"}', b'{"pid": null, "host": "h"}', b"\xff", None],
)
def test_a_holder_that_did_not_say_who_it_is_is_another_process(written: bytes | None, tmp_path: Path) -> None:
    if written is not None:
        (tmp_path / "job.holder.json").write_bytes(written)
    assert locks.holder_of(tmp_path, "job") == "another process"


@pytest.mark.parametrize("error", [NotImplementedError("no locks here"), OSError(errno.ENOLCK, "No locks available")])
def test_where_nothing_can_be_locked_nothing_is_done(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def acquire(_: object) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with pytest.raises(StoreFailed, match="cannot lock job"), locks.sole(tmp_path, "job", "it is run", FakeClock()):
        pytest.fail("it was done")
