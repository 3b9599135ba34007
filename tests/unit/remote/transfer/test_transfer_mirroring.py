"""A directory that comes home file by file: whole or without its name, and of nobody but the box's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.answers import Digest
from harness.core.errors import TransferFailed
from harness.core.ids import Sha256
from harness.core.observed import Observed
from harness.core.ports import RemoteFile
from harness.core.questions import Answers, DigestOf
from harness.remote.transfer import mirror
from harness.remote.transfer.attempt import Cancelled
from harness.remote.transfer.mirror import INCOMING

FILES = {"adapter.safetensors": "/box/c/adapter.safetensors", "ref/config.json": "/box/c/ref/config.json"}
SEEN: Observed[Digest] = Observed(value=Digest(True, 7, Sha256("a" * 64)))


class _Box:
    """A box whose files are what they are called."""

    def __init__(self) -> None:
        self.fetched: list[RemoteFile] = []
        self.seen = dict.fromkeys(FILES.values(), SEEN)

    def probe(self, asked: list[DigestOf]) -> Answers:
        return Answers({one: self.seen[one.path] for one in asked})

    def fetch(self, remote: RemoteFile, local: Path) -> None:
        self.fetched.append(remote)
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_text(remote.path)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "mirror" / "checkpoint-100"


def _content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_every_file_comes_as_it_was_recorded_and_then_the_directory_has_its_name(home: Path) -> None:
    box = _Box()
    stray = home.with_name(home.name + INCOMING) / "old" / "of-another-run.pt"
    stray.parent.mkdir(parents=True)
    stray.write_text("old")
    mirror.mirror(box.probe, box.fetch, FILES, home, lambda: False)
    assert _content(home) == FILES
    assert box.fetched == [RemoteFile(path, 7, Sha256("a" * 64)) for path in FILES.values()]
    assert [path.name for path in home.parent.iterdir()] == [home.name]
    mirror.mirror(box.probe, box.fetch, FILES, home, lambda: False)
    assert len(box.fetched) == len(FILES), "what is here is whole"


def test_called_off_between_two_files_it_keeps_the_first_and_has_no_name(home: Path) -> None:
    box = _Box()
    with pytest.raises(Cancelled, match="the mirror of checkpoint-100 was cancelled"):
        mirror.mirror(box.probe, box.fetch, FILES, home, lambda: bool(box.fetched))
    assert not home.exists()
    assert _content(home.with_name(home.name + INCOMING)) == dict([next(iter(FILES.items()))])


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (Observed(problem="permission denied"), "config.json cannot be recorded: permission denied"),
        (Observed(value=Digest(False)), "config.json cannot be recorded: it is gone"),
    ],
    ids=["not read", "gone"],
)
def test_a_file_that_the_box_cannot_tell_of_keeps_the_name_from_the_rest(
    home: Path, seen: Observed[Digest], told: str
) -> None:
    box = _Box()
    box.seen["/box/c/ref/config.json"] = seen
    with pytest.raises(TransferFailed, match=told):
        mirror.mirror(box.probe, box.fetch, FILES, home, lambda: False)
    assert not home.exists()


@pytest.mark.parametrize("other", ["ADAPTER.safetensors", "Ref/config.json"])
def test_two_names_that_are_one_on_another_disk_are_refused(home: Path, other: str) -> None:
    box = _Box()
    with pytest.raises(TransferFailed, match="two files for checkpoint-100 are one"):
        mirror.mirror(box.probe, box.fetch, {**FILES, other: "/box/c/other"}, home, lambda: False)
    assert not box.fetched
