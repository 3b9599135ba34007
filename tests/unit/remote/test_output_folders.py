"""Folders that a job's training writes to are outputs on the box, and no strays beside the package."""

from __future__ import annotations

import pytest

from harness.remote.box.outputs import is_output, is_written_there

FOLDERS = ("out", "merged")


@pytest.mark.parametrize("path", ["out/checkpoint-20/trainer_state.json", "merged/config.json", "models/output/sft/x"])
def test_what_lies_in_them_is_an_output(path: str) -> None:
    assert is_output(path, FOLDERS)
    assert is_written_there(path, FOLDERS)


@pytest.mark.parametrize("path", ["outside/x", "train.py", "data/out/rows.jsonl", "merged.py"])
def test_what_only_sounds_so_is_none(path: str) -> None:
    assert not is_output(path, FOLDERS)
    assert not is_written_there(path, FOLDERS)


def test_a_job_that_names_none_has_those_of_the_contract() -> None:
    assert not is_output("out/checkpoint-20/x")
    assert is_output("models/output/final/x.gguf")
