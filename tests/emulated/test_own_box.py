"""A whole job on a machine of one's own, stock OpenSSH, to the proven giving back; and gates that a bad one shuts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.local_sshd import SSHD, LocalSshd
from harness.ledger.events import Destroyed, Pinned, Rented
from tests.support.operator import SUPPORT, Operator
from tests.support.own_box import own_box

pytestmark = [pytest.mark.slow, pytest.mark.skipif(SSHD is None, reason="sshd is not installed")]

CHANGES = (
    ('kind = "emulated"', 'kind = "ssh"\nhost = "box"'),
    ('gpu = "H100"', 'gpu = "CPU"'),
    ("gpus = 8", "gpus = 1"),
    ("disk_gb = 40", "disk_gb = 8\nreserved_gb = 1"),
)
CLAIM = ".gold-standard-harness/claim"
PACKAGE = "workspace/vastai_llm_training"


class Owner(Operator):
    """The operator of a machine of his own."""

    @property
    def file(self) -> Path:
        path = self.folder / "job.toml"
        if not path.exists():
            text = (SUPPORT / "quick_job.toml").read_text(encoding="utf-8")
            text = text.replace('"quick_package"', json.dumps((SUPPORT / "quick_package").as_posix()))
            for old, new in (*CHANGES, *self.changes):
                assert old in text
                text = text.replace(old, new)
            path.write_text(text, encoding="utf-8")
        return path


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LocalSshd]:
    with own_box(tmp_path / "there") as served:
        yield served


@pytest.fixture
def owner(tmp_path: Path, box: LocalSshd) -> Owner:
    assert box.home.is_dir()
    (tmp_path / "here").mkdir()
    return Owner(tmp_path / "here", "")


def claimed(box: LocalSshd) -> str | None:
    """The claim on the box as it lies there."""
    link = box.home / CLAIM
    return str(link.readlink()) if link.is_symlink() else None


def test_a_whole_job_ends_with_the_model_home_and_the_machine_given_back(owner: Owner, box: LocalSshd) -> None:
    assert owner.run() == 0
    said = owner.said[-1].stdout
    assert claimed(box) is None
    assert (box.home / PACKAGE / "models/output/final/quick.Q8_0.gguf").is_file(), "what the job wrote stays"
    happened = owner.events()
    (rented,) = [one for one in happened if isinstance(one, Rented)]
    assert (rented.usd_per_hour, rented.offer["place"]) == (0.0, "your own machine")
    assert [one.how for one in happened if isinstance(one, Pinned)] == ["known_hosts of this user"]
    assert [one for one in happened if isinstance(one, Destroyed)]
    assert "your own machine, nothing is billed" in said
    assert "$" not in said, said
