"""What lies at the place of a verified artifact, held against the release: the same file, and in a folder no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.artifacts import parts
from harness.artifacts.parts import ArtifactFile
from harness.core.errors import Refused
from harness.core.ids import Sha256
from harness.guard.hold import HeldArtifact
from harness.release import release as releases
from harness.release.release import Release
from tests.support.job_histories import DIGEST, Log

OTHER = Sha256("ef" * 32)


@pytest.fixture
def release() -> Release:
    log = Log().verified()
    return releases.statement(log.history, "vast", log.at)


def held(place: Path, sha256: Sha256 = DIGEST) -> HeldArtifact:
    return HeldArtifact(place, sha256, (), "look again")


def test_the_file_that_is_held_is_the_one_that_is_released(release: Release, tmp_path: Path) -> None:
    held(tmp_path / "model").require_in_place(release)
    for one in (held(tmp_path / "model", OTHER).require_in_place, held(tmp_path / "model", OTHER).require_size):
        with pytest.raises(Refused, match=f"it is the file with the SHA-256 {OTHER}, the release names {DIGEST}"):
            one(release)


def test_of_a_folder_no_file_is_more_and_none_is_less(release: Release, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    hashed, files = parts.here(tmp_path)
    of_folder = replace(release, sha256=hashed.sha256, files=files)
    held(tmp_path, hashed.sha256).require_in_place(of_folder)
    with pytest.raises(Refused, match="b is in the folder, and the release does not name it"):
        held(tmp_path, hashed.sha256).require_in_place(replace(of_folder, files=files[:1]))
    more = (*files, ArtifactFile("c", 1, OTHER))
    with pytest.raises(Refused, match="c does not exist"):
        held(tmp_path, hashed.sha256).require_size(replace(of_folder, files=more))
    with pytest.raises(Refused, match="the release names"):
        held(tmp_path, OTHER).require_in_place(of_folder)
