"""Each rule on rows: break one thing in sound rows and see that very rule name the line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts.dataset import labels, rows, sound, texts
from harness.artifacts.dataset.contract import Schema, Teaching
from harness.artifacts.dataset.rows import Rows
from harness.core.errors import BadInput

Row = dict[str, Any]
PAIRS = ("EURUSD", "GBPJPY", "AUDCAD", "USDSEK")


def demonstration(number: int) -> Row:
    pair = PAIRS[number % 4]
    figures = ", ".join(f"{(number * 7919 + place * 104729) % 100_000 / 1000:+.3f}%" for place in range(8))
    answer = "Direction: UP" if number % 2 else "Direction: DOWN"
    return {
        "prompt": f"{pair[:3]}/{pair[3:]}, daily fixing. Changes: {figures}.\nWhere will it be? End with a direction.",
        "completion": f"<think>\nThe trend of {number / 7:.2f} % speaks for it.\n</think>\n\n{answer}",
        "pair": pair,
        "date": f"20{number % 20:02d}-01-{number % 28 + 1:02d}",
    }


def preference(number: int) -> Row:
    row = demonstration(number)
    chosen = row.pop("completion")
    return row | {"chosen": chosen, "rejected": chosen.replace("speaks for", "is no argument for")}


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return path


def demonstrations(count: int = 60) -> list[Any]:
    return [demonstration(number) for number in range(count)]


def read(path: Path) -> Rows:
    return rows.read(path, Teaching.PREFERENCES if '"chosen"' in path.read_text("utf-8") else Teaching.EXAMPLES)


def judged(folder: Path, lines: list[Any], evaluation: list[Any] | None = None) -> dict[str, list[int]]:
    """Rule -> the lines that it named."""
    training = [read(write(folder / "real.jsonl", lines))]
    evaluate = [] if evaluation is None else [read(write(folder / "eval.jsonl", evaluation))]
    assert not training[0].defects
    return {flaw.rule: list(flaw.lines) for flaw in sound.judge(training, evaluate)}


def test_sound_rows_have_no_defects(tmp_path: Path) -> None:
    later = [demonstration(number) | {"date": "2031-05-05"} for number in range(100, 130)]
    assert judged(tmp_path, demonstrations(), later) == {}
    assert judged(tmp_path, [preference(number) for number in range(60)]) == {}


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("not json", "json"),
        ("", "json"),
        ('{"prompt": "a", "completion": "b"} {}', "json"),
        ('{"prompt": NaN, "completion": "b"}', "json"),
        ("[" * 100_000, "json"),
        ('{"prompt": "a"}', "schema"),
        ('["prompt", "completion", "pair", "date"]', "schema"),
        ('{"prompt": 7, "completion": "b"}', "schema"),
        ('{"prompt": "a", "chosen": "b", "rejected": "c"}', "schema"),
        ('{"messages": []}', "schema"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "schema"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "schema"),
        ('{"messages": [{"role": ["user"], "content": "x"}]}', "schema"),
        ('{"instruction": "x", "input": 3, "output": "y"}', "schema"),
        ('{"prompt": "", "completion": "b"}', "schema"),
        ('{"prompt": "a", "completion": " \\n"}', "schema"),
        ('{"prompt": "a", "completion": "b", "pair": ["EURUSD"]}', "schema"),
        ('{"prompt": "a", "completion": "b", "date": 20200101}', "schema"),
    ],
)
def test_a_line_that_is_no_row_is_named_and_not_skipped(tmp_path: Path, line: str, rule: str) -> None:
    path = write(tmp_path / "a.jsonl", [*demonstrations(5), line, *demonstrations(3)])
    found = rows.read(path, Teaching.EXAMPLES)
    assert [(defect.line, defect.rule) for defect in found.defects] == [(6, rule)]
    assert len(found.rows) == 8
    assert found.lines == [1, 2, 3, 4, 5, 7, 8, 9]


def test_bytes_that_are_not_utf8_are_a_defect_of_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "a", "completion": "b"}\n{"prompt": "\xff", "completion": "b"}\n')
    assert [defect.line for defect in rows.read(path, Teaching.EXAMPLES).defects] == [2]


def test_a_missing_or_empty_file_is_never_zero_sound_rows(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.jsonl"):
        rows.read(tmp_path / "nowhere.jsonl", Teaching.EXAMPLES)
    assert read(write(tmp_path / "empty.jsonl", [])).defects


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8-sig", ["1: json: it begins with a byte order mark: save the file as UTF-8 without one"]),
        ("utf-16", [f"{line}: json: it holds zero bytes, as UTF-16 does: save the file as UTF-8" for line in (1, 2)]),
    ],
)
def test_what_a_windows_editor_does_to_a_file_is_told(tmp_path: Path, encoding: str, told: list[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes("\n".join(json.dumps(demonstration(n)) for n in range(2)).encode(encoding))
    found = rows.read(path, Teaching.EXAMPLES).defects
    assert [f"{defect.line}: {defect.rule}: {defect.detail}" for defect in found] == told


@pytest.mark.parametrize(
    ("row", "schema"),
    [
        (demonstration(1), Schema.COMPLETION),
        (preference(1), Schema.PREFERENCE),
        ({"instruction": "Do", "output": "Done"}, Schema.INSTRUCTION),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, Schema.MESSAGES),
    ],
)
def test_each_schema_is_known_and_counted(tmp_path: Path, row: Row, schema: Schema) -> None:
    path = write(tmp_path / "a.jsonl", [row] * 3)
    assert read(path).schema is schema
    assert len(read(path).rows) == 3


def put(field: str, change: Callable[[str], str]) -> Callable[[Row], None]:
    def apply(row: Row) -> None:
        row[field] = change(row[field])

    return apply


def leak_answer(row: Row) -> None:
    answer = row["completion"].rpartition("Direction: ")[2]
    row["prompt"] += f"\nDirection: {answer}"


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (put("prompt", lambda text: text + " Close {close:.4f}."), "unrendered_value"),
        (put("completion", lambda text: text + " {change:+.2f}%"), "unrendered_value"),
        (put("prompt", lambda text: text + " {pair_name}"), "unrendered_value"),
        (put("prompt", lambda text: text + " at %s today"), "unrendered_value"),
        (put("prompt", lambda text: text + " at %.2f today"), "unrendered_value"),
        (put("prompt", lambda text: text + " {{ close }}"), "unrendered_value"),
        (put("prompt", lambda text: text + " RSI nan."), "not_a_number"),
        (put("completion", lambda text: text + " +inf%"), "not_a_number"),
        (put("completion", lambda text: text + " NaN"), "not_a_number"),
        (put("prompt", lambda text: text + " The actual return was +0.8%."), "outcome_stated"),
        (put("completion", lambda text: text + " The next day the pair rose."), "outcome_stated"),
        (put("completion", lambda text: text + " In hindsight it was clear."), "outcome_stated"),
        (put("prompt", lambda text: text + "\nOutcome: DOWN"), "outcome_stated"),
        (leak_answer, "answer_in_prompt"),
        (lambda row: row.update(prompt=row["prompt"] + row["completion"]), "answer_in_prompt"),
        (put("pair", lambda _: "EURXXQ"), "wrong_pair"),
        (put("pair", lambda _: "EUREUR"), "wrong_pair"),
        (put("pair", lambda _: "CHFNOK"), "wrong_pair"),
        (put("date", lambda _: "2020-02-31"), "date"),
    ],
)
def test_one_bad_row_among_good_ones_is_named(tmp_path: Path, damage: Callable[[Row], None], rule: str) -> None:
    lines = demonstrations()
    damage(lines[41])
    found = judged(tmp_path, lines)
    assert found.get(rule) == [42]


def test_prose_that_only_resembles_a_defect_is_sound(tmp_path: Path) -> None:
    lines = demonstrations()
    lines[3]["completion"] += " A gain of 50% does not recover it; 5 % of \\frac{a}{b}, {x: 1}, information, Nancy."
    lines[4]["prompt"] += " Which direction will the future return have? Answer Direction: UP or DOWN."
    lines[5]["prompt"] += ' JSON: {"a": {"b": 1}} and the outcome is open.'
    assert judged(tmp_path, lines) == {}


def test_equal_chosen_and_rejected_are_named(tmp_path: Path) -> None:
    lines = [preference(number) for number in range(60)]
    lines[7]["rejected"] = lines[7]["chosen"] + "\n"
    assert judged(tmp_path, lines) == {"chosen_equals_rejected": [8]}


def test_duplicates_count_only_beyond_their_share(tmp_path: Path) -> None:
    lines = demonstrations(200)
    lines[100] = dict(lines[0])
    assert judged(tmp_path, lines) == {}
    for number in range(101, 105):
        lines[number] = dict(lines[number - 100])
    assert judged(tmp_path, lines)["duplicate"] == [101, 102, 103, 104, 105]


def test_the_same_data_in_other_words_is_a_near_duplicate(tmp_path: Path) -> None:
    lines = demonstrations(100)
    for number in range(60, 66):
        lines[number]["prompt"] = lines[number - 60]["prompt"].replace("daily fixing", "the daily fixings").upper()
        lines[number]["pair"] = lines[number - 60]["pair"]
    assert judged(tmp_path, lines)["near_duplicate"] == [61, 62, 63, 64, 65]


def test_words_that_differ_only_in_case_and_spacing_are_near_duplicates(tmp_path: Path) -> None:
    lines: list[Any] = [
        {"prompt": f"Tell me about topic {chr(97 + number)}.", "completion": "…"} for number in range(26)
    ]
    lines.append({"prompt": "tell  me about: TOPIC c.", "completion": "another answer"})
    assert judged(tmp_path, lines)["near_duplicate"] == [27]


def test_equal_prompts_with_other_answers_contradict(tmp_path: Path) -> None:
    lines = demonstrations()
    lines[50] = {**lines[10], "completion": lines[11]["completion"]}
    assert judged(tmp_path, lines)["contradiction"] == [51]


def test_preferring_what_another_row_rejects_contradicts(tmp_path: Path) -> None:
    lines = [preference(number) for number in range(60)]
    lines[50] = {**lines[10], "chosen": lines[10]["rejected"], "rejected": lines[10]["chosen"]}
    assert judged(tmp_path, lines)["contradiction"] == [11, 51]


def test_classes_that_collapse_are_a_defect_of_the_file(tmp_path: Path) -> None:
    lines = demonstrations()
    for row in lines[:55]:
        row["completion"] = row["completion"].replace("UP", "DOWN")
    assert judged(tmp_path, lines) == {"class_collapse": []}


def test_evaluation_must_be_later_and_unseen(tmp_path: Path) -> None:
    early = [demonstration(number) for number in range(100, 103)]
    assert set(judged(tmp_path, demonstrations(), early)) == {"time_order"}
    seen = [demonstration(5) | {"date": "2031-01-01"}]
    assert judged(tmp_path, demonstrations(), seen) == {"evaluation_row_in_training": [1]}
    undated = [{key: value for key, value in demonstration(99).items() if key != "date"}]
    assert judged(tmp_path, demonstrations(), undated) == {"time_order": []}


def test_a_rule_is_told_once_with_its_share_and_its_first_lines(tmp_path: Path) -> None:
    lines = demonstrations(50)
    for row in lines[10:]:
        row["prompt"] += " {close:.4f}"
    (flaw,) = sound.judge([read(write(tmp_path / "a.jsonl", lines))])
    assert (flaw.lines, flaw.count, flaw.rows, flaw.beyond) == ((11, 12, 13, 14, 15), 40, 50, True)
    assert str(flaw).startswith("a.jsonl:11: unrendered_value: 40 of 50 rows (80.0%): prompt: ")
    assert str(flaw).endswith("(lines 11, 12, 13, 14, 15, ...)")


def test_a_flaw_of_the_file_as_a_whole_names_no_line(tmp_path: Path) -> None:
    lines = demonstrations()
    for row in lines[:55]:
        row["completion"] = row["completion"].replace("UP", "DOWN")
    (flaw,) = sound.judge([read(write(tmp_path / "a.jsonl", lines))])
    assert str(flaw).startswith("a.jsonl: class_collapse: ")


def test_examples_of_several_shapes_are_judged_together(tmp_path: Path) -> None:
    lines = demonstrations(30)
    lines += [{"instruction": row["prompt"], "input": None, "output": row["completion"]} for row in lines[:20]]
    lines[40]["output"] += " {close:.4f}"
    mixed = read(write(tmp_path / "a.jsonl", lines))
    assert len(mixed.rows) == 50
    found = {flaw.rule: flaw.count for flaw in sound.judge([mixed])}
    assert found == {"duplicate": 19, "near_duplicate": 1, "unrendered_value": 1}


def test_a_job_may_do_without_a_rule(tmp_path: Path) -> None:
    lines = demonstrations()
    lines[3]["prompt"] += " nan"
    limits = sound.DatasetLimits(ignore=frozenset({"not_a_number"}))
    assert sound.judge([read(write(tmp_path / "a.jsonl", lines))], limits=limits) == ()


def test_labels_are_read_from_a_field_an_announcement_or_a_word(tmp_path: Path) -> None:
    def of(lines: list[Any]) -> list[str]:
        return labels.of(texts.of(read(write(tmp_path / "a.jsonl", lines))))

    assert of(demonstrations(4)) == ["DOWN", "UP", "DOWN", "UP"]
    assert of([{"prompt": "?", "completion": "long\nprose", "label": "buy"}]) == ["buy"]
    assert of([{"prompt": "?", "completion": "yes"}, {"prompt": "!", "completion": "no"}]) == ["yes", "no"]
    assert of([{"prompt": "?", "completion": "A text that teaches no class at all."}]) == []


def test_escape_sequences_of_a_row_do_not_reach_the_finding(tmp_path: Path) -> None:
    lines = demonstrations()
    lines[3]["prompt"] += " \x1b[31m{close:.4f}"
    (found,) = sound.judge([read(write(tmp_path / "a.jsonl", lines))])
    assert "\x1b" not in str(found)


@pytest.mark.parametrize(
    ("middle", "wrong"),
    [
        (['{"prompt": "a", "completion": "b"', '"pair": "c", "date": "d"}'], [31, 32]),
        (['{"prompt": "a", "completion": "b', '", "pair": "c", "date": "d"}'], [31, 32]),
        (["ROW, ROW", '{"more": [{"prompt": "a"}', '{"prompt": "b"}]}'], [31, 32, 33]),
        (["ROW, ROW", "ROW, ROW", "ROW", '{"more": [{"prompt": "a"}', "ROW", '{"prompt": "b"}]}'], [31, 32, 34, 36]),
        (["]", "["], [31, 32]),
        (["5ROW", "ROW-", r'{"prompt": "\5", "completion": "b", "pair": "c", "date": "d"}'], [31, 32, 33]),
        (['{"prompt7": "a", "completion": "b", "pair": "c", "date": "d"}'], [31]),
        (['{"prompt": 7, "completion": "b", "pair": "c", "date": "d"}', "ROW"], [31]),
        ([r'{"prompt": "\u0022}\u000a{", "completion": "\\u", "pair": "c", "date": "d"}'], []),
    ],
)
def test_each_line_is_a_row_by_itself_whatever_lies_beside_it(
    tmp_path: Path, middle: list[str], wrong: list[int]
) -> None:
    """No two lines make one row, and no line makes two."""
    row = json.dumps(demonstration(3))
    lines = [*demonstrations(30), *(line.replace("ROW", row) for line in middle), *demonstrations(30)]
    found = rows.read(write(tmp_path / "real.jsonl", lines), Teaching.EXAMPLES)
    assert [defect.line for defect in found.defects] == wrong
    assert found.lines == [line for line in range(1, len(lines) + 1) if line not in wrong]
