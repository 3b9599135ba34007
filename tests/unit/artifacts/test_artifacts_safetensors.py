"""Files of safetensors: what their numbers tell, and when several of them are one model."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import safetensors
from harness.artifacts.safetensors import INDEX, SafetensorsError
from tests.support.checkpoint_files import tensors

ONE = b"\0\0\x80\x3f"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "a file of 0 bytes has no header"),
        (bytes(7), "a file of 7 bytes has no header"),
        (bytes(8), "the header is not JSON"),
        (struct.pack("<Q", 3) + b"{}", "a header of 3 bytes in a file of 10"),
        (struct.pack("<Q", 2) + b"[]", "the header is not an object"),
        (struct.pack("<Q", 2) + b"\xff\xff", "the header is not JSON"),
        (struct.pack("<Q", 100_000) + b"[" * 100_000, "the header is not JSON"),
        (struct.pack("<Q", 2) + b"{}x", "the tensors end at byte 10, the file has 11"),
    ],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(SafetensorsError, match=words):
        safetensors.parse(tmp_path / "x")


@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        ([(4, 8)], "'0' begins at byte [0-9]+, expected"),
        ([(0, 4), (8, 12)], "'1' begins at byte"),
        ([(0, 4), (0, 4), (4, 8)], "'1' begins at byte"),
        ([(0, 4), (4, 8), (8, 12)], ""),
        ([(8, 12), (0, 4), (4, 8)], ""),
    ],
)
def test_tensors_lie_one_behind_the_other(tmp_path: Path, offsets: list[tuple[int, int]], words: str) -> None:
    rows = {str(at): {"dtype": "F32", "shape": [1], "data_offsets": one} for at, one in enumerate(offsets)}
    text = json.dumps(rows).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text + bytes(max(end for _, end in offsets)))
    if words:
        with pytest.raises(SafetensorsError, match=words):
            safetensors.parse(tmp_path / "x")
    else:
        assert len(safetensors.parse(tmp_path / "x")) == len(offsets)


def test_a_header_is_read_up_to_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(struct.pack("<Q", 4) + b"{  }")
    monkeypatch.setattr(safetensors, "MAX_HEADER_BYTES", 4)
    assert safetensors.parse(tmp_path / "x") == ()
    monkeypatch.setattr(safetensors, "MAX_HEADER_BYTES", 3)
    with pytest.raises(SafetensorsError, match="a header of 4 bytes"):
        safetensors.parse(tmp_path / "x")


def test_tensors_are_told_in_the_order_of_their_data(tmp_path: Path) -> None:
    path = tensors(tmp_path / "x", ("b", "F32", [0], b""), ("a", "F32", [], ONE), ("c", "U8", [2, 1], b"12"))
    begin = path.stat().st_size - 6
    assert [entry[:3] for entry in safetensors.parse(path)] == [
        ("b", "F32", (0,)),
        ("a", "F32", ()),
        ("c", "U8", (2, 1)),
    ]
    assert [entry[3:] for entry in safetensors.parse(path)] == [
        (begin, begin),
        (begin, begin + 4),
        (begin + 4, begin + 6),
    ]


@pytest.mark.parametrize(
    ("dtype", "number", "odd"),
    [
        ("F64", struct.pack("<d", 131071.9), False),
        ("F64", struct.pack("<d", 131072.0), True),
        ("F64", struct.pack("<d", -131072.0), True),
        ("F32", struct.pack("<f", 131071.9), False),
        ("F32", struct.pack("<f", 131072.0), True),
        ("F32", struct.pack("<f", -131072.0), True),
        ("F32", struct.pack("<f", float("nan")), True),
        ("BF16", b"\xff\x47", False),
        ("BF16", b"\x00\x48", True),
        ("BF16", b"\x00\xc8", True),
        ("F16", struct.pack("<e", 65504.0), False),
        ("F16", struct.pack("<e", float("inf")), True),
        ("F16", struct.pack("<e", float("-inf")), True),
        ("F8_E5M2", b"\x7b", False),
        ("F8_E5M2", b"\x7c", True),
        ("F8_E4M3", b"\x7e", False),
        ("F8_E4M3", b"\xff", True),
        ("I64", b"\xff" * 8, False),
    ],
)
def test_a_number_that_no_weight_is_is_seen_among_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, number: bytes, odd: bool
) -> None:
    monkeypatch.setattr(safetensors, "_PIECE", 64)
    usual = b"\1" * (len(number) - 1) + b"\x20"
    for at in (0, 50, 99):  # in the first piece, within, in the last one
        raw = usual * at + number + usual * (99 - at)
        path = tensors(tmp_path / "x", ("a", dtype, [100], raw))
        ((_, values),) = safetensors.scan(path)
        assert values == (odd, False, False)


@pytest.mark.parametrize(
    ("raw", "zero", "hole"),
    [
        (bytes(1024), True, True),
        (b"\x00\x00\x00\x80" * 256, True, False),
        (bytes(1020) + ONE, False, True),
        (ONE + bytes(1020), False, True),
        (ONE + bytes(508) + ONE + bytes(508) + ONE, False, False),
        (b"\1" + bytes(511) + b"\1" * 4, False, False),
        (b"\1" * 4 + bytes(512) + b"\1" * 4, False, True),
        (b"", True, False),
    ],
    ids=[
        "zeros",
        "zeros with a sign",
        "but the last",
        "but the first",
        "short runs",
        "a run of 511",
        "a run of 512",
        "nothing",
    ],
)
def test_zeros_and_runs_of_them_are_seen(tmp_path: Path, raw: bytes, zero: bool, hole: bool) -> None:
    path = tensors(tmp_path / "x", ("a", "F32", [len(raw) // 4], raw))
    ((_, values),) = safetensors.scan(path)
    assert values == (False, zero, hole)


def test_what_was_seen_in_one_piece_is_not_forgotten_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safetensors, "_PIECE", 1024)
    path = tensors(tmp_path / "x", ("a", "F32", [768], bytes(1024) + ONE * 256 + bytes(1024)))
    ((_, values),) = safetensors.scan(path)
    assert values == (False, False, True)


def test_a_file_that_is_shorter_by_now_is_refused(tmp_path: Path) -> None:
    path = tensors(tmp_path / "x", ("a", "F32", [1], ONE), ("b", "F32", [100_000], ONE * 100_000))
    seen = safetensors.scan(path)
    assert next(seen)[0].name == "a"
    with path.open("r+b") as file:
        file.truncate(200_000)
    with pytest.raises(SafetensorsError, match="became shorter while it was read"):
        next(seen)


ROW = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'{{"a": {ROW}, "a": {ROW}}}', "a name is stated twice"),
        (f'{{"a": {{"dtype": "F32", "dtype": "F32", {ROW[17:]}}}', "a name is stated twice"),
        (f'{{"a": {ROW.replace("4]", "4, 8]")}}}', "'a': not a tensor entry"),
        (f'{{"a": {ROW.replace("0, 4]", "4]")}}}', "'a': not a tensor entry"),
        (f'{{"a": {ROW.replace("[0, 4]", "4")}}}', "'a': not a tensor entry"),
        (f'{{"a": {ROW.replace("[1]", "1")}}}', "'a': not a tensor entry"),
        ('{"a": {}}', "'a': not a tensor entry"),
        ('{"a": [1, 2, 3]}', "'a': not a tensor entry"),
        (f'{{"a": {ROW.replace("F32", "F33")}}}', "'a': unknown type 'F33'"),
        (f'{{"a": {ROW.replace("[1]", "[-1]")}}}', "or a length that is none"),
        (f'{{"a": {ROW.replace("[1]", "[1.0]")}}}', "or a length that is none"),
        (f'{{"a": {ROW.replace("[0", "[-4")}}}', "or a length that is none"),
        (f'{{"a": {ROW.replace("[1]", "[2]")}}}', r"'a': 4 bytes for F32 \[2\], expected 8"),
        (f'{{"a": {ROW}, "__metadata__": {{"format": "pt"}}}}', ""),
    ],
)
def test_an_entry_that_is_none_is_refused_by_its_name(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text.encode() + bytes(4))
    if words:
        with pytest.raises(SafetensorsError, match=words):
            safetensors.parse(tmp_path / "x")
    else:
        assert [one.name for one in safetensors.parse(tmp_path / "x")] == ["a"]


def _index(folder: Path, text: Any) -> None:
    (folder / INDEX).write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")


def _places(**where: Any) -> Callable[[Path], None]:
    return lambda folder: _index(folder, {"weight_map": where})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model in two files, with its index."""
    tensors(tmp_path / "one", ("a", "F32", [1], ONE), ("b", "F32", [1], ONE))
    tensors(tmp_path / "two", ("c", "F32", [1], ONE))
    _places(a="one", b="one", c="two")(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_places(a="one", b="one", c="two"), None),
        (_places(), "names no file, or one of another folder"),
        (_places(a="one", b="one", c="../two"), "names no file, or one of another folder"),
        (_places(a="one", b="one", c="three"), "names three, which is missing"),
        (_places(a="one", b="one"), None),
        (_places(a="one", c="two"), "names one, which holds other tensors"),
        (_places(a="one", b="one", c="two", d="two"), "names two, which holds other tensors"),
        (_places(a="one", b="two", c="two"), "names one, which holds other tensors"),
        (lambda folder: (folder / "two").write_bytes(b"PK"), "names two, which does not parse: a file of 2 bytes"),
        (lambda folder: _index(folder, ""), "does not parse: JSONDecodeError"),
        (lambda folder: _index(folder, "[" * 100_000), "does not parse: RecursionError"),
        (lambda folder: _index(folder, {}), "does not parse: KeyError"),
        (lambda folder: _index(folder, []), "does not parse: TypeError"),
        (lambda folder: _index(folder, {"weight_map": []}), "does not parse: AttributeError"),
        (_places(a=5), "does not parse: TypeError"),
    ],
)
def test_an_index_is_held_against_its_files(folder: Path, change: Callable[[Path], object], told: str | None) -> None:
    change(folder)
    seen = safetensors.index_problem(folder)
    assert (seen is None) is (told is None)
    assert (seen or "").startswith(told or "")


@pytest.mark.parametrize(
    ("change", "names", "told"),
    [
        (lambda _: None, ["one", "two"], None),
        (lambda folder: (folder / INDEX).unlink(), ["one"], None),
        (lambda folder: (folder / INDEX).unlink(), ["one", "two"], f"{INDEX} is missing, 2 files of tensors lie there"),
        (_places(a="one", b="one"), ["one", "two"], f"{INDEX} does not name two: it may be another run's"),
        (_places(), ["one", "two"], f"{INDEX} names no file"),
        (lambda folder: (folder / "two").write_bytes(b"PK"), ["one", "two"], "two does not parse: a file of 2"),
        (lambda folder: tensors(folder / "two"), ["one", "two"], "two holds no tensor"),
    ],
)
def test_files_of_a_folder_are_one_model_or_not(
    folder: Path, change: Callable[[Path], object], names: list[str], told: str | None
) -> None:
    change(folder)
    seen = safetensors.folder_problem(folder, names)
    assert (seen is None) is (told is None)
    assert (seen or "").startswith(told or "")
