"""Every line of a data file parses and fits, or the run stops and names file and line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from forex import rows
from forex.errors import DataDefect

GOOD = '{"prompt": "p", "completion": "c"}'


def written(tmp_path: Path, *lines: str | bytes) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines))
    return path


def test_all_shapes_become_the_same_turn(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}]
    path = written(
        tmp_path,
        GOOD,
        json.dumps({"messages": messages}),
        json.dumps({"messages": [{"role": "system", "content": "s"}, *messages]}),
        json.dumps({"instruction": "p", "output": "c"}),
        json.dumps({"instruction": "i", "input": "x", "output": "c"}),
        json.dumps({"prompt": "p", "completion": "c", "pair": "EURUSD", "date": "2001-02-03"}),
    )
    assert rows.read_examples(path).rows == (
        rows.Example("p", "c"),
        rows.Example("p", "c"),
        rows.Example("p", "c", system="s"),
        rows.Example("p", "c"),
        rows.Example("i\n\nx", "c"),
        rows.Example("p", "c", pair="EURUSD", date="2001-02-03"),
    )


def test_the_digest_is_that_of_the_bytes_read(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD, GOOD)
    assert rows.read_examples(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{'prompt': 1}", "not JSON"),
        ("", "not JSON"),
        ("[1]", "a list where an object belongs"),
        ('{"prompt": "p"}', "'completion' is missing"),
        ('{"prompt": "p", "completion": 3}', "'completion' is not a text"),
        ('{"prompt": " ", "completion": "c"}', "'prompt' is empty"),
        ('{"prompt": "p", "completion": NaN}', "NaN is not a value"),
        (b'{"prompt": "\xff", "completion": "c"}', "not UTF-8 at byte 12"),
        ('{"messages": [{"role": "user", "content": "p"}]}', "roles"),
        ('{"messages": "hello"}', "not a list of objects"),
        ('{"instruction": "p"}', "'output' is missing"),
        ('{"prompt": "p<｜Assistant｜>x", "completion": "c"}', "fake a turn"),  # noqa: RUF001
        ('{"prompt": "p", "completion": "c", "prompt": "q"}', "'prompt' stands there twice"),
        (r'{"prompt": "p\ud83d", "completion": "c"}', "'prompt' holds half of a surrogate pair"),
        ('{"prompt": "p", "completion": "<think>on and on"}', "opens <think> and never closes it"),
        ('{"prompt": "p", "completion": "<think>a</think>b<think>c"}', "opens <think> and never closes it"),
        (r'{"prompt": "p", "completion": "<think>\na\n</think>\n"}', "nothing stands after </think>"),
        ('{"instruction": "p", "input": 0, "output": "a"}', "'input' is not a text"),
        ('{"prompt": "p", "completion": "a", "system": []}', "'system' is not a text"),
        ('{"instruction": "p", "output": "Well. <think>a</think>b"}', "text before <think>"),
        ("[" * 100_000, "not JSON|nested"),
        ('{"prompt": "' + "x" * rows.LINE_LIMIT + '"}', "longer than"),
    ],
)
def test_a_defect_names_file_and_line(tmp_path: Path, line: str | bytes, said: str) -> None:
    path = written(tmp_path, GOOD, line, GOOD)
    with pytest.raises(DataDefect, match=rf"rows\.jsonl, line 2: .*({said})"):
        rows.read_examples(path)


@pytest.mark.parametrize("rejected", ["a", r"\n a"])
def test_preferences_must_differ_in_what_is_trained(tmp_path: Path, rejected: str) -> None:
    path = written(tmp_path, f'{{"prompt": "p", "chosen": "a", "rejected": "{rejected}"}}')
    with pytest.raises(DataDefect, match=r"line 1: 'chosen' equals 'rejected'"):
        rows.read_preferences(path)


@pytest.mark.parametrize("name", ["chosen", "rejected"])
def test_both_answers_of_a_preference_end_their_reasoning(tmp_path: Path, name: str) -> None:
    row = {"prompt": "p", "chosen": "a", "rejected": "b", name: "<think>on and on"}
    with pytest.raises(DataDefect, match=r"line 1: the answer opens <think> and never closes it"):
        rows.read_preferences(written(tmp_path, json.dumps(row)))


def test_a_missing_or_empty_file_is_a_defect(tmp_path: Path) -> None:
    with pytest.raises(DataDefect, match=r"cannot read .*absent\.jsonl: No such file .*; put the file there, or move"):
        rows.read_examples(tmp_path / "absent.jsonl")
    with pytest.raises(DataDefect, match="holds no rows"):
        rows.read_examples(written(tmp_path))
