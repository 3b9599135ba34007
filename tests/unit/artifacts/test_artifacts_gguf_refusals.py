"""Every refusal of the strict header parser, by its name, and the last value that each still takes."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable

import gguf as official
import pytest

from harness.artifacts import gguf

UINT32, STRING, ARRAY, BOOL = 4, 8, 9, 7
F32, Q8_0 = 0, 8


def text(value: str | bytes) -> bytes:
    spelled = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(spelled)) + spelled


def entry(key: str | bytes, code: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", code) + value


def alignment(value: int) -> bytes:
    return entry("general.alignment", UINT32, struct.pack("<I", value))


def tensor(name: str | bytes, *shape: int, code: int = F32, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, code, offset)


def file(*parts: bytes, data: int = 0, at: int = 32, tail: bytes = b"", tensors: int | None = None) -> bytes:
    """A header of metadata and tensors, padded to ``at``, with its data; a tensor is a part that ends in its offset."""
    metadata = [part for part in parts if part not in _TENSORS]
    count = len(parts) - len(metadata) if tensors is None else tensors
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(metadata)) + b"".join(parts)
    return head + bytes(-len(head) % at if count or data else 0) + bytes(data) + tail


def parsed(data: bytes) -> gguf.Gguf:
    return gguf.parse_stream(io.BytesIO(data), len(data))


_TENSORS: set[bytes] = set()


def made(*, name: str | bytes = "a", shape: tuple[int, ...] = (8,), code: int = F32, offset: int = 0) -> bytes:
    one = tensor(name, *shape, code=code, offset=offset)
    _TENSORS.add(one)
    return one


TAKEN: dict[str, Callable[[], bytes]] = {
    "one tensor": lambda: file(made(), data=32),
    "two, the second behind the first's padding": lambda: file(made(), made(name="b", offset=32), data=64),
    "an alignment of 1": lambda: file(alignment(1), made(shape=(1,)), data=4, at=1),
    "the largest alignment": lambda: file(alignment(1 << 20), made(), data=1 << 20, at=1 << 20),
    "a name of 63 bytes": lambda: file(made(name="n" * 63), data=32),
    "four dimensions": lambda: file(made(shape=(2, 2, 2, 1)), data=32),
    "a whole block": lambda: file(made(shape=(32,), code=Q8_0), data=64),
    "both booleans": lambda: file(entry("no", BOOL, b"\0"), entry("yes", BOOL, b"\1")),
    "an empty array at the end": lambda: file(entry("a", ARRAY, struct.pack("<IQ", UINT32, 0))),
    "the longest key": lambda: file(entry("k" * 65535, BOOL, b"\1")),
    "an array of an empty text at the end": lambda: file(entry("a", ARRAY, struct.pack("<IQQ", STRING, 1, 0))),
    "a text longer than what is read at once": lambda: file(entry("a", STRING, text("b" * (5 << 20)))),
    "a text of an array that begins in what is read at once": lambda: _across(4),
    "a length of an array that begins in what is read at once": lambda: _across(-4),
    "a vocabulary alone": lambda: file(entry("a", STRING, text("b"))),
    "a vocabulary alone, padded": lambda: _padded(file(entry("a", STRING, text("b")))),
}


def _across(more: int) -> bytes:
    """Three texts in an array, the second of which has its length, or ends, about where the first reading did."""
    before = len(file(entry("a", ARRAY, struct.pack("<IQ", STRING, 3) + text(""))))
    texts = text("b" * ((4 << 20) - before + more)) + text("c") + text("d")
    return file(entry("a", ARRAY, struct.pack("<IQ", STRING, 3) + texts))


def _padded(head: bytes, more: int = 0) -> bytes:
    return head + bytes(-len(head) % 32 + more)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "another magic": (lambda: b"GGUF".lower() + file(made(), data=32)[4:], "magic"),
    "version 2": (lambda: b"GGUF\2" + file(made(), data=32)[5:], "2, only version 3"),
    "big-endian": (lambda: b"GGUF\0\0\0\3" + file(made(), data=32)[8:], "big-endian"),
    "an alignment of 0": (lambda: file(alignment(0), made(), data=32), "0 is not a power of two"),
    "an alignment of 48": (lambda: file(alignment(48), made(), data=48, at=48), "48 is not a power"),
    "an alignment too large": (
        lambda: file(alignment(1 << 21), made(), data=1 << 21, at=1 << 21),
        "2097152 is not a power",
    ),
    "an alignment that is true": (
        lambda: file(entry("general.alignment", BOOL, b"\1"), made(shape=(1,)), data=4, at=1),
        "True is not a power",
    ),
    "one byte too many": (lambda: file(made(), data=33), r"\(\+1\)"),
    "one byte too few": (lambda: file(made(), data=31), r"ends at data byte 32|\(-1\)"),
    "a vocabulary with a byte more": (lambda: file(entry("a", STRING, text("b")), tail=b"\0"), r"file size"),
    "a vocabulary, padded, with a block more": (
        lambda: _padded(file(entry("a", STRING, text("b"))), 32),
        r"\(\+32\)",
    ),
    "words in the padding": (lambda: _dirty(file(made(), data=32)), "other than zero"),
    "an empty key": (lambda: file(entry("", BOOL, b"\1")), "empty key"),
    "a key that is stated twice": (lambda: file(*[entry("k", BOOL, b"\1")] * 2), "stated twice"),
    "a key too long": (lambda: file(entry("k" * 65536, BOOL, b"\1")), "65536 bytes, at most 65535"),
    "a key that is no text": (lambda: file(entry(b"\xff", BOOL, b"\1")), "not UTF-8"),
    "a boolean of 2": (lambda: file(entry("k", BOOL, b"\2")), "a boolean of 2"),
    "a value type of 13": (lambda: file(entry("k", 13, bytes(8))), "unknown value type 13"),
    "an array of arrays": (lambda: file(entry("k", ARRAY, struct.pack("<IQ", ARRAY, 0))), "array of value type 9"),
    "an array longer than the file": (
        lambda: file(entry("k", ARRAY, struct.pack("<IQI", UINT32, 2, 5))),
        "2 is more than the file can hold",
    ),
    "a text of an array longer than the file": (
        lambda: file(entry("k", ARRAY, struct.pack("<IQQ", STRING, 1, 9)), tail=bytes(8)),
        "metadata 'k': the file ends at byte",
    ),
    "a name too long": (lambda: file(made(name="n" * 64), data=32), "64 bytes, at most 63"),
    "an empty name": (lambda: file(made(name=""), data=32), "empty name"),
    "a name that is stated twice": (
        lambda: file(made(), made(offset=32), data=64),
        "stated twice",
    ),
    "no dimension": (lambda: file(made(shape=()), data=32), "0 dimensions"),
    "five dimensions": (lambda: file(made(shape=(1, 1, 1, 1, 1)), data=32), "5 dimensions"),
    "a dimension of 0": (lambda: file(made(shape=(8, 0)), data=32), r"shape \(8, 0\)"),
    "a dimension beyond all sense": (lambda: file(made(shape=((1 << 40) + 1,)), data=32), "shape"),
    "the largest dimension": (lambda: file(made(shape=(1 << 40,)), data=32), "'a': ends at data byte 4398046511104"),
    "a type that is none": (lambda: file(made(code=5), data=32), "unknown type 5"),
    "a gap before the first": (lambda: file(made(offset=32), data=64), "begins at data byte 32"),
    "an overlap": (lambda: file(made(shape=(16,)), made(name="b", offset=32), data=96), "ends at 64"),
    "half a block": (lambda: file(made(shape=(16,), code=Q8_0), data=32), "not whole blocks of Q8_0"),
    "more tensors than fit": (lambda: file(made(), data=32, tensors=1000), "more than the file can hold"),
    "nothing": (lambda: b"", "magic: the file ends at byte 0, 4 are needed"),
}


def _dirty(data: bytes) -> bytes:
    return data[:-33] + b"x" + data[-32:]


@pytest.mark.parametrize("made_of", TAKEN.values(), ids=TAKEN)
def test_the_last_value_that_is_taken(made_of: Callable[[], bytes]) -> None:
    data = made_of()
    header = parsed(data)
    assert header.size == len(data)
    assert header.data_start + sum(-(-one.nbytes // header.alignment) for one in header.tensors) * header.alignment == (
        len(data)
    )


@pytest.mark.parametrize(("made_of", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_named(made_of: Callable[[], bytes], words: str) -> None:
    with pytest.raises(gguf.GgufError, match=words):
        parsed(made_of())


@pytest.mark.parametrize(
    ("limit", "most", "made_of", "words"),
    [
        ("MAX_HEADER_BYTES", 64, lambda: file(entry("a", STRING, text("b" * 19))), "larger than 63 bytes"),
        ("MAX_TENSORS", 1, lambda: file(made(), data=32), "tensor count: 1 is more"),
        ("MAX_METADATA", 1, lambda: file(entry("k", BOOL, b"\1")), "metadata count: 1 is more"),
        ("MAX_STRING_BYTES", 3, lambda: file(entry("k", STRING, text("abc"))), "3 bytes, at most 2"),
        ("MAX_STRING_BYTES", 3, lambda: file(_texts("a", "abc")), "3 bytes, at most 2"),
    ],
)
def test_a_limit_takes_what_it_says_and_no_more(
    monkeypatch: pytest.MonkeyPatch, limit: str, most: int, made_of: Callable[[], bytes], words: str
) -> None:
    monkeypatch.setattr(gguf, limit, most)
    assert parsed(made_of()).size == len(made_of())
    monkeypatch.setattr(gguf, limit, most - 1)
    with pytest.raises(gguf.GgufError, match=words):
        parsed(made_of())


def _texts(*values: str) -> bytes:
    return entry("k", ARRAY, struct.pack("<IQ", STRING, len(values)) + b"".join(map(text, values)))


def test_a_file_that_is_shorter_by_now_is_refused() -> None:
    data = file(entry("k", STRING, text("abc")))
    with pytest.raises(gguf.GgufError, match="became shorter while it was read"):
        gguf.parse_stream(io.BytesIO(data[:-1]), len(data))


def test_a_header_as_json_says_each_value_as_json_can() -> None:
    metadata = {"text": "x" * 65537, "whole": 7, "yes": True, "half": 0.5, "least": -math.inf, "none": math.nan}
    array = gguf.Array("string", 3, 70, 90)
    tensors = (gguf.Tensor("a", (8, 2), "F32", 0, 64), gguf.Tensor("b", (4,), "F16", 64, 8))
    told = gguf.summary(gguf.Gguf(300, 32, 200, {**metadata, "array": array}, tensors))
    assert told == {
        "size": 300,
        "alignment": 32,
        "data_start": 200,
        "data_bytes": 72,
        "metadata": {
            "text": "x" * 65536,
            "whole": 7,
            "yes": True,
            "half": 0.5,
            "least": "-inf",
            "none": "nan",
            "array": {"array": "string", "length": 3},
        },
        "tensors": [["a", [8, 2], "F32", 0, 64], ["b", [4], "F16", 64, 8]],
    }


def test_only_another_version_is_called_another_version() -> None:
    for name, (made_of, _) in REFUSED.items():
        with pytest.raises(gguf.GgufError) as refused:
            parsed(made_of())
        assert (refused.type is gguf.GgufVersionError) == (name in {"version 2", "big-endian"}), name


@pytest.mark.parametrize("kind", [one for one in official.GGUFValueType if one.name not in {"STRING", "ARRAY"}])
def test_every_scalar_is_what_the_official_writer_calls_by_its_number(kind: official.GGUFValueType) -> None:
    spelled = struct.pack("<" + official.GGUFWriter._simple_value_packing[kind], 1)
    header = parsed(file(entry("k", kind, spelled), entry("a", ARRAY, struct.pack("<IQ", kind, 1) + spelled)))
    assert header.metadata["k"] == 1
    assert type(header.metadata["k"]) is {"BOOL": bool, "FLOAT32": float, "FLOAT64": float}.get(kind.name, int)
    assert header.metadata["a"].item_type == kind.name.lower()
