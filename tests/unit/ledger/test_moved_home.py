"""Paths in a log are of the time at which they were written; the job's folder may lie elsewhere today."""

from __future__ import annotations

from pathlib import Path, PurePath, PurePosixPath

import pytest

from harness.ledger.events import Released
from harness.ledger.history import placed
from tests.support.job_histories import DIGEST, Log, job

HERE = PurePosixPath("/new/home/jobs/night")

PATHS: dict[str, tuple[str, str]] = {
    "as it lies": ("/new/home/jobs/night/artifact/m.gguf", "/new/home/jobs/night/artifact/m.gguf"),
    "another home": (
        "/home/me/.local/share/harness/jobs/night/artifact/m.gguf",
        "/new/home/jobs/night/artifact/m.gguf",
    ),
    "a folder of files": ("/old/jobs/night/artifact/adapter/a.json", "/new/home/jobs/night/artifact/adapter/a.json"),
    "of Windows": (
        r"C:\Users\me\harness\jobs\night\evidence\launch-1.json",
        "/new/home/jobs/night/evidence/launch-1.json",
    ),
    "a release": ("/old/jobs/night/release-30.json", "/new/home/jobs/night/release-30.json"),
    "a home that lies in a job's folder": (
        "/old/jobs/night/artifact/jobs/night/artifact/m.gguf",
        "/new/home/jobs/night/artifact/m.gguf",
    ),
    "another job": ("/old/jobs/nights/artifact/m.gguf", "/old/jobs/nights/artifact/m.gguf"),
    "another job that ends alike": ("/old/jobs/to/night/artifact/m.gguf", "/old/jobs/to/night/artifact/m.gguf"),
    "beside the jobs": ("/models/m.gguf", "/models/m.gguf"),
    "a folder of that name elsewhere": ("/data/jobs/night/models/m.gguf", "/data/jobs/night/models/m.gguf"),
    "the folder itself": ("/old/jobs/night", "/old/jobs/night"),
}


@pytest.mark.parametrize("case", PATHS)
def test_a_path_of_the_log_is_found_where_it_lies(case: str) -> None:
    told, here = PATHS[case]
    assert placed(Log().history, HERE).here(told) == PurePath(here)
    assert Log().history.here(told) == PurePath(told), "nobody has said where the folder lies"


def test_files_and_release_are_told_by_their_place_today() -> None:
    log = (
        Log()
        .verified(path="/old/jobs/night/artifact/m.gguf")
        .add(Released("/old/jobs/night/release-3.json", "cd" * 32))
    )
    there = placed(log.history, HERE)
    assert there.fetched == there.verified
    assert there.verified is not None
    assert (there.verified.path, there.verified.sha256) == (HERE / "artifact/m.gguf", DIGEST)
    assert there.release_path == str(HERE / "release-3.json")
    assert there.records == log.history.records


def test_a_destination_of_ones_own_is_where_it_was() -> None:
    """Even where it is named as a job's folder is."""
    own = job(artifact={"destination": Path("/data/jobs/night/artifact")})
    there = placed(Log(own).verified(path="/data/jobs/night/artifact/m.gguf").history, HERE)
    assert there.verified is not None
    assert there.verified.path == PurePath("/data/jobs/night/artifact/m.gguf")
