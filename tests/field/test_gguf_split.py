"""A model in several files is judged as one."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts.expectation import Expectation
from harness.artifacts.verify import verify_file
from harness.core.verdict import Verdict
from tests.field.case import field_case
from tests.field.findings import FAIL, PASS, by_id, verdicts
from tests.support.model_files import TINY, split_gguf, write_gguf


def _nothing(_: object) -> None:
    return


@pytest.fixture
def split(tmp_path: Path) -> list[Path]:
    """A model in three files, as gguf-split makes them."""
    return split_gguf(write_gguf(tmp_path / "whole.gguf", TINY), "m")


def _patch(path: Path, key: bytes, value: bytes) -> None:
    data = path.read_bytes()
    at = data.index(key) + len(key) + 4
    path.write_bytes(data[:at] + value + data[at + len(value) :])


def _one_more(files: list[Path]) -> None:
    for path in files:
        _patch(path, b"split.tensors.count", struct.pack("<i", 28))


SPLITS: list[Any] = [
    field_case("whole, the first named", "ggml-org/llama.cpp#6187", 0, _nothing, {}, ""),
    field_case("whole, the last named", "Michael-A-Kuykendall/shimmy#170", 2, _nothing, {}, ""),
    field_case(
        "the second is missing",
        "ggml-org/llama.cpp#15164",
        0,
        lambda files: files[1].unlink(),
        {"split_complete": FAIL},
        "one of 3 files: m-00002-of-00003.gguf not there",
    ),
    field_case(
        "one alone",
        "vllm-project/vllm-metal#720",
        2,
        lambda files: (files[0].unlink(), files[1].unlink()),
        {"split_complete": FAIL},
        "one of 3 files: m-00001-of-00003.gguf, m-00002-of-00003.gguf not there",
    ),
    field_case(
        "renamed",
        "ggml-org/llama.cpp#9613",
        0,
        lambda files: files.__setitem__(0, files[0].rename(files[0].with_name("model.gguf"))),
        {"split_complete": FAIL},
        "its name does not say which",
    ),
    field_case(
        "two exchanged",
        "own: names that were given by hand",
        0,
        lambda files: (
            files[1].rename(files[1].with_name("x")),
            files[2].rename(files[1]),
            files[1].with_name("x").rename(files[2]),
        ),
        {"split_complete": FAIL},
        "m-00002-of-00003.gguf states number 2 of 3, expected 1 of 3",
    ),
    field_case(
        "one file twice",
        "own: a download that was resumed under another name",
        0,
        lambda files: shutil.copy(files[1], files[2]),
        {"split_complete": FAIL},
        "9 tensors are in several files",
    ),
    field_case(
        "another count of tensors",
        "own: a tool that wrote fewer than it had announced",
        0,
        _one_more,
        {"split_complete": FAIL},
        "split.tensors.count is 28, there are 27 tensors",
    ),
    field_case(
        "the second is cut",
        "own: an interrupted download",
        0,
        lambda files: files[1].write_bytes(files[1].read_bytes()[:-500]),
        {"well_formed": FAIL},
        "m-00002-of-00003.gguf",
    ),
    field_case(
        "the third is zeros at its end",
        "own: a file that was allocated and not filled",
        0,
        lambda files: files[2].write_bytes(files[2].read_bytes()[:-9000] + bytes(9000)),
        {"weights_present": FAIL},
        "zeros where weights should be",
    ),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("named", "damage", "expected", "words"), SPLITS)
def test_a_split_model_is_judged_as_one(
    split: list[Path],
    named: int,
    damage: Callable[[list[Path]], object],
    expected: Mapping[str, Verdict],
    words: str,
) -> None:
    damage(split)
    found = verify_file(split[named], Expectation())
    assert verdicts(found) == expected
    assert words in "".join(finding.seen for finding in found if finding.verdict is not PASS)
    if not expected:
        assert by_id(found)["tensors_as_predicted"].seen.startswith("27 tensors")
        assert "tokenizer_consistent" in by_id(found)


def test_a_model_that_is_whole_may_keep_a_shards_name(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m-00001-of-00002.gguf", TINY)
    assert not verdicts(verify_file(path, Expectation()))
