"""The files of one split: which they are by the name of one, and what each must say of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf as writer
import numpy as np
import pytest

from harness.artifacts import gguf, shards
from harness.core.answers import GgufHeader, GgufOnBox


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("m.gguf", 1),
        ("m-00001-of-00000.gguf", 1),
        ("m-00001-of-00001.gguf", 1),
        ("m-00002-of-00001.gguf", 1),
        ("m-00002-of-00002.gguf", 2),
        ("m-00007-of-00003.gguf", 3),
        ("m-00001-of-04096.gguf", 4096),
        ("m-00001-of-04097.gguf", 1),
        ("m-00001-of-00003.gguf.part", 1),
        ("-00001-of-00003.gguf", 1),
    ],
)
def test_the_files_of_a_split_are_told_by_the_name_of_one(name: str, count: int) -> None:
    wanted = [name] if count == 1 else [f"m-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]
    assert shards.siblings(Path("folder", name)) == tuple(Path("folder", one) for one in wanted)


@pytest.mark.parametrize(
    ("names", "words"),
    [("", ""), ("a", "a"), ("abc", "a, b, c"), ("abcd", "a, b, c and 1 more"), ("abcdef", "a, b, c and 3 more")],
)
def test_of_many_files_the_first_are_named(names: str, words: str) -> None:
    assert shards.named(list(names)) == words


def _says(number: object, count: object) -> dict[str, object]:
    return {"split.no": number, "split.count": count}


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([_says(0, 2), _says(1, 2)], []),
        ([_says(0, 2), None], []),
        ([None, None], []),
        ([_says(1, 2), _says(1, 2)], ["0 states number 1 of 2, expected 0 of 2"]),
        (
            [_says(1, 2), _says(0, 2)],
            ["0 states number 1 of 2, expected 0 of 2", "1 states number 0 of 2, expected 1 of 2"],
        ),
        ([_says(0, 2), _says(1, 3)], ["1 states number 1 of 3, expected 1 of 2"]),
        ([{"split.no": 0}, _says(1, 2)], ["0 states number 0 of None, expected 0 of 2"]),
        ([_says(0, 2), {}], ["1 states number None of None, expected 1 of 2"]),
    ],
)
def test_a_file_that_is_another_one_of_its_split_is_told(
    headers: list[Mapping[str, object] | None], told: list[str]
) -> None:
    assert shards.misplaced({str(at): header for at, header in enumerate(headers)}) == told


def _header(number: int, *names: str) -> GgufHeader:
    tensors = tuple((name, (8,), "F32", 0, 32) for name in names)
    return GgufHeader(100 + number, 40 + number, 50 + number, {**_says(number, 2), "split.tensors.count": 3}, tensors)


FIRST = _header(0, "a", "b")


def _both(second: GgufOnBox) -> GgufOnBox:
    return shards.one({"1.gguf": GgufOnBox(exists=True, gguf=FIRST), "2.gguf": second})


def test_a_split_on_the_box_is_one_model() -> None:
    second = _header(1, "c")
    whole = GgufHeader(201, 40, 101, FIRST.metadata, (*FIRST.tensors, *second.tensors))
    assert _both(GgufOnBox(exists=True, gguf=second)) == GgufOnBox(exists=True, gguf=whole)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (GgufOnBox(exists=True, malformed="magic: cut"), "2.gguf: magic: cut"),
        (GgufOnBox(exists=True), "2.gguf: the parser says nothing about it"),
        (GgufOnBox(exists=True, gguf=_header(0, "c")), "2.gguf states number 0 of 2, expected 1 of 2"),
        (GgufOnBox(exists=True, gguf=_header(1, "a")), "1 tensors are in several files"),
        (GgufOnBox(exists=True, gguf=_header(1, "c", "d")), "split.tensors.count is 3, there are 4 tensors"),
    ],
)
def test_a_split_on_the_box_that_is_none_says_why(second: GgufOnBox, words: str) -> None:
    told = _both(second)
    assert (told.exists, told.malformed) == (True, words)


def test_a_split_on_the_box_has_all_its_defects_told() -> None:
    told = _both(GgufOnBox(exists=True, gguf=_header(0, "a", "b"))).malformed
    assert told is not None
    place, twice, count = told.split("; ")
    assert place == "2.gguf states number 0 of 2, expected 1 of 2"
    assert twice == "2 tensors are in several files"
    assert count == "split.tensors.count is 3, there are 4 tensors"


@pytest.mark.parametrize("first", [GgufOnBox(exists=True, gguf=FIRST), GgufOnBox(exists=True, malformed="cut")])
def test_a_split_of_which_one_file_is_not_there_is_not_there(first: GgufOnBox) -> None:
    told = shards.one({"1.gguf": first, "2.gguf": GgufOnBox(exists=False)})
    assert told == GgufOnBox(exists=False)


def _written(path: Path, metadata: Mapping[str, int], **tensors: float) -> Path:
    made = writer.GGUFWriter(path, "any")
    for key, value in metadata.items():
        made.add_uint32(key, value)
    for name, number in tensors.items():
        made.add_tensor(name, np.full(8, number, dtype=np.float32))
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    return path


def test_the_bytes_of_a_tensor_are_read_from_the_file_that_has_it(tmp_path: Path) -> None:
    files = shards.siblings(tmp_path / "m-00001-of-00002.gguf")
    split: dict[str, Any] = {"split.count": 2, "split.tensors.count": 4}
    _written(files[0], {**split, "split.no": 0, "own": 7}, a=1.0, b=2.0)
    _written(files[1], {**split, "split.no": 1}, c=3.0, d=4.0)
    for named in files:
        whole = shards.parse(named)
        assert (whole.count, whole.problems, whole.first, whole.header.metadata["own"]) == (2, (), files[0], 7)
        assert [tensor.name for tensor in whole.header.tensors] == ["a", "b", "c", "d"]
        for name, value in zip("abcd", (1, 2, 3, 4), strict=True):
            assert whole.data(name) == np.full(8, value, dtype=np.float32).tobytes()
        assert whole.data("e") == b""


@pytest.mark.parametrize(
    ("stated", "second", "problem"),
    [
        (3, True, "split.tensors.count is 3, there are 2 tensors"),
        (2, False, "m-00001-of-00002.gguf is one of 2 files: m-00002-of-00002.gguf not there"),
    ],
)
def test_a_split_that_lacks_something_says_one_thing(tmp_path: Path, stated: int, second: bool, problem: str) -> None:
    files = shards.siblings(tmp_path / "m-00001-of-00002.gguf")
    split = {"split.count": 2, "split.tensors.count": stated}
    _written(files[0], {**split, "split.no": 0}, a=1.0)
    if second:
        _written(files[1], {**split, "split.no": 1}, b=2.0)
    assert shards.parse(files[0]).problems == (problem,)


@pytest.mark.parametrize(
    ("metadata", "count", "problems"),
    [
        ({}, 1, []),
        ({"split.count": 0}, 1, []),
        ({"split.count": 1, "split.no": 0, "split.tensors.count": 1}, 1, []),
        ({"split.count": 1, "split.tensors.count": 2}, 1, ["split.tensors.count is 2, there are 1 tensors"]),
        ({"split.count": 2, "split.no": 0}, 2, ["m.gguf is one of 2 files, and its name does not say which"]),
    ],
)
def test_a_file_alone_says_whether_it_is_one_of_several(
    tmp_path: Path, metadata: Mapping[str, int], count: int, problems: list[str]
) -> None:
    whole = shards.parse(_written(tmp_path / "m.gguf", metadata, a=1.0))
    assert (whole.count, list(whole.problems)) == (count, problems)


def test_a_file_of_a_split_that_does_not_parse_is_named(tmp_path: Path) -> None:
    files = shards.siblings(tmp_path / "m-00001-of-00002.gguf")
    _written(files[0], {"split.count": 2, "split.no": 0}, a=1.0)
    for data, kind in ((b"GGUF\2\0\0\0", gguf.GgufVersionError), (b"GGML", gguf.GgufError)):
        files[1].write_bytes(data)
        with pytest.raises(gguf.GgufError, match=r"^m-00002-of-00002\.gguf, (version|magic): ") as refused:
            shards.parse(files[0])
        assert refused.type is kind
