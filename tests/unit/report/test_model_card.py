"""README.md beside the model: the Hub's own parser reads it, a stranger's words stay words, a person's file stays."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.artifacts import digest
from harness.core.ids import Sha256
from harness.job.card import CardTable
from harness.ledger.events import Staged
from harness.report import build, card
from harness.report.model import EvaluationReport, Report
from tests.support.job_histories import DIGEST, LOCAL, Log, job
from tests.support.reports import HOSTILE, closed, hostile, training

NAME = LOCAL.rpartition("/")[2]


def _log(log: Log | None = None, **card_table: Any) -> Log:
    log = log or Log(job(card=card_table) if card_table else None)
    rows = {path: Sha256(f"{number}" * 64) for number, path in enumerate(log.job.data.paths.values())}
    return log.add(Staged("/home/me/staged", rows)).closed()


def _card(log: Log, modelfile: str | None = None, **changes: Any) -> str:
    report = build(log.history, now=log.at, charges=None, training=training())
    text = card.render(dataclasses.replace(report, **changes), log.history, modelfile)
    assert text is not None
    return text


def _head(text: str) -> dict[str, Any]:
    """The metadata as the Hub's own library reads it."""
    from huggingface_hub import ModelCard

    found: dict[str, Any] = ModelCard(text).data.to_dict()  # type: ignore[no-untyped-call]  # the library's own has none
    return found


def _below(text: str) -> str:
    from huggingface_hub import ModelCard

    return ModelCard(text).text


def test_the_hub_reads_what_the_job_file_states() -> None:
    log = _log(
        license="other", license_name="my terms", license_link="LICENSE", language=("en",), tags=("forex",),
        datasets=("me/daily-forex",),
    )  # fmt: skip
    assert _head(_card(log)) == {
        "license": "other",
        "license_name": "my terms",
        "license_link": "LICENSE",
        "base_model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        "base_model_relation": "finetune",
        "library_name": "gguf",
        "datasets": ["me/daily-forex"],
        "language": ["en"],
        "tags": ["gguf", "Q8_0", "lora", "forex"],
    }


def test_what_nobody_stated_is_unknown_and_not_invented() -> None:
    text = _card(_log())
    head = _head(text)
    assert (head["license"], head["license_name"]) == ("other", "unknown")
    assert not {"language", "datasets", "license_link"} & set(head)
    assert "**License: unknown.**" in text
    assert "Not evaluated: " in text
    assert "How good its answers are was not measured." in text
    assert "wrote no Modelfile" in text


def test_a_base_that_is_not_of_the_hub_is_no_link_to_it() -> None:
    head = _head(_card(_log(Log(job(model={"base": "made up by the package"})))))
    assert not {"base_model", "base_model_relation"} & set(head)


@pytest.mark.parametrize(
    ("kind", "library", "relation"), [("merged", "transformers", "finetune"), ("adapter", "peft", "adapter")]
)
def test_each_kind_of_model_names_its_library(kind: str, library: str, relation: str) -> None:
    head = _head(_card(_log(Log(job(artifact={"kind": kind, "floor": 1})))))
    assert (head["library_name"], head["base_model_relation"]) == (library, relation)
    assert "Q8_0" not in head["tags"]


def test_the_card_tells_what_the_report_tells() -> None:
    found = closed().evaluation
    text = _below(_card(_log(), 'FROM ./x.gguf\nTEMPLATE """{{ .Prompt }}"""\n', evaluation=found))
    for told in (
        DIGEST,
        f"sha256sum -- {NAME}",
        f"llama-cli -m {NAME}",
        'TEMPLATE """{{ .Prompt }}"""',
        "`data/forex_integrated/real_feature_examples.jsonl` | 10200 | `sft` | `" + "0" * 64,
        "| this model | 57.7% | 55.8% to 59.6% |",
        "| majority class | 51.2% |",
        "Leak scan: nothing to doubt.",
        "harness release check release-30.json",
        "`sft.learning_rate` | `0.0001`",
        "`4f2a9c1d`",
    ):
        assert told in text, told


def test_no_better_than_the_majority_is_said_and_so_is_every_doubt() -> None:
    found = closed().evaluation
    assert found is not None
    ((kind, one),) = found.decisions.items()
    worse = dataclasses.replace(one, beats_majority=False, doubts=("a row is in both",))
    text = _card(_log(), evaluation=EvaluationReport({kind: worse}, ""))
    assert "**Not shown to be better than the majority class.**" in text
    assert "- `a row is in both`" in text


def test_there_is_no_card_before_the_model_is_verified() -> None:
    log = Log().fetched()
    assert card.render(build(log.history, now=log.at, charges=None), log.history, None) is None


@cache
def _with(word: str) -> str:
    """A card in every field of which stands one word."""
    log = _log(Log(job(model={"base": word or "x"})))
    report: Report = hostile((word,))
    return _card(log, word, evaluation=report.evaluation, training=report.training)


@pytest.mark.parametrize("evil", HOSTILE)
def test_a_strangers_words_change_neither_head_nor_structure(evil: str) -> None:
    text, quiet = _with(evil), _with("quite harmless")
    assert _head(text) == _head(quiet)
    assert _shape(text) == _shape(quiet)


def _shape(text: str) -> list[str]:
    """Headings and rows of tables of the card, outside of its fenced blocks."""
    fence, found = "", []
    for line in _below(text).splitlines():
        if fence:
            fence = "" if line == fence else fence
        elif line.startswith("```"):
            fence = "`" * (len(line) - len(line.lstrip("`")))
        elif line.startswith(("#", "|", "<", "---")):
            found.append(line.split(" ")[0])
    return found


@given(st.text(min_size=1, max_size=60))
@settings(max_examples=40, deadline=None)
def test_any_words_of_a_person_come_back_from_the_head(words: str) -> None:
    from harness.core.text import printable

    if "\n" in words or "\r" in words:
        return
    head = _head(_card(_log(license="other", license_name=words)))
    assert head["license_name"] == printable(words, 400)


def test_a_modelfile_with_odd_characters_is_not_shown_cut() -> None:
    for odd in ("FROM x\x1b[31m", "y" * 20_000):
        text = _card(_log(), odd)
        assert "too long, or too odd" in text
        assert "yyyy" not in text


@pytest.mark.parametrize(
    "table",
    [
        {"license": "Apache 2.0"},
        {"license": "mit", "license_name": "x"},
        {"license_link": "x"},
        {"tags": ["a b"]},
        {"language": ["en\n"]},
        {"datasets": ["a/b/c"]},
        {"licence": "mit"},
    ],
)
def test_an_odd_table_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CardTable.model_validate(table)


def test_the_card_lies_beside_the_model_and_follows_it(tmp_path: Path) -> None:
    assert card.leave("one\n", tmp_path, NAME, "night") == tmp_path / "README.md"
    before = (tmp_path / "README.md").read_bytes()
    assert before.startswith(b"one\n<!-- gold-standard-harness night ")
    card.leave("two\n", tmp_path, NAME, "night")
    assert (tmp_path / "README.md").read_bytes().startswith(b"two\n")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    "there",
    [
        "a person's own words\n",
        f"another job's card\n<!-- gold-standard-harness other {digest.of_bytes(b'another job')} -->\n",
        f"changed by a person\n<!-- gold-standard-harness night {digest.of_bytes(b'as it was')} -->\n",
    ],
    ids=["a person's", "another job's", "changed since"],
)
def test_what_a_person_wrote_is_never_replaced(tmp_path: Path, there: str) -> None:
    (tmp_path / "README.md").write_text(there)
    assert card.leave("one\n", tmp_path, NAME, "night") == tmp_path / f"{NAME}.README.md"
    assert (tmp_path / "README.md").read_text() == there
    (tmp_path / f"{NAME}.README.md").write_text("changed, too")
    assert card.leave("two\n", tmp_path, NAME, "night") is None
    assert (tmp_path / f"{NAME}.README.md").read_text() == "changed, too"
