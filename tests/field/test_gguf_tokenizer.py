"""Vocabularies of every kind, chat templates, and the directories that say what trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf as writer
import pytest

from harness.artifacts import expectation
from harness.artifacts.expectation import Expectation
from harness.artifacts.verify import verify_file
from harness.core.errors import BadInput
from harness.core.verdict import Verdict
from tests.field.case import field_case
from tests.field.findings import FAIL, PASS, UNKNOWN, by_id, verdicts
from tests.support.model_files import CHAT_TEMPLATE, TINY, merges, tokens, write_gguf, write_training

Change = Callable[[writer.GGUFWriter], Any]


def _rewrite(directory: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    body = json.loads((directory / name).read_text(encoding="utf-8"))
    change(body)
    (directory / name).write_text(json.dumps(body), encoding="utf-8")


def _sentencepiece(w: writer.GGUFWriter) -> None:
    """As the converter writes a SentencePiece Llama: scores, and neither merges nor a pre-tokenizer."""
    for key in ("tokenizer.ggml.merges", "tokenizer.ggml.pre"):
        w.kv_data[0].pop(key)
    w.add_tokenizer_model("llama")
    w.add_token_scores([-float(number) for number in range(300)])


def _and(*changes: Change) -> Change:
    def change(w: writer.GGUFWriter) -> None:
        for each in changes:
            each(w)

    return change


def _without(*names: str) -> Change:
    return lambda w: [w.kv_data[0].pop(f"tokenizer.ggml.{name}") for name in names]


def _marked(w: writer.GGUFWriter) -> None:
    """WordPiece: the converter marks where a word begins."""
    _without("merges", "pre", "eos_token_id")(w)
    w.add_tokenizer_model("bert")
    known = tokens(300)
    w.add_token_list([*known[:3], *(f"▁{text}" if not text.startswith("[PAD") else text for text in known[3:])])


ALONE = [
    field_case("byte pairs", "ggml-org/llama.cpp models/ggml-vocab-qwen2.gguf", lambda _: None, PASS, ""),
    field_case("SentencePiece", "ggml-org/llama.cpp models/ggml-vocab-llama-spm.gguf", _sentencepiece, PASS, ""),
    field_case(
        "SentencePiece without the end's id: llama.cpp takes 2",
        "own: src/llama-vocab.cpp",
        _and(_sentencepiece, _without("eos_token_id")),
        PASS,
        "",
    ),
    field_case("WordPiece", "ggml-org/llama.cpp models/ggml-vocab-bert-bge.gguf", _marked, PASS, ""),
    field_case(
        "SentencePiece without scores",
        "own: a converter that took the tokens alone",
        _and(_sentencepiece, _without("scores")),
        FAIL,
        "tokenizer.ggml.scores: none",
    ),
    field_case(
        "SentencePiece with a score that is no number",
        "own: scores that were computed",
        _and(_sentencepiece, lambda w: w.add_token_scores([float("nan"), *[0.0] * 299])),
        FAIL,
        "not finite",
    ),
    field_case("byte pairs without merges", "own: half a tokenizer", _without("merges"), FAIL, "merges: missing"),
    field_case(
        "padded with the unknown token",
        "own: Llama 2 has no padding token",
        lambda w: w.add_token_types([2, 3, 3, *[1] * 297]),
        PASS,
        "",
    ),
    field_case(
        "padding is the end",
        "unslothai/unsloth#416",
        lambda w: w.add_pad_token_id(2),
        PASS,
        "padding is the end of text (2)",
    ),
    field_case(
        "pre is default",
        "own: what some converters write for a tokenizer they do not know",
        lambda w: w.add_tokenizer_pre("default"),
        PASS,
        "'default'",
    ),
    field_case("no pre", "ollama/ollama#4126", _without("pre"), FAIL, "tokenizer.ggml.pre: missing"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("change", "verdict", "words"), ALONE)
def test_a_vocabulary_fits_itself(tmp_path: Path, change: Change, verdict: Verdict, words: str) -> None:
    found = by_id(verify_file(write_gguf(tmp_path / "m.gguf", TINY, change=change), Expectation()))
    assert found["tokenizer_consistent"].verdict is verdict
    assert words in found["tokenizer_consistent"].seen


def _unigram(directory: Path) -> None:
    def change(body: dict[str, Any]) -> None:
        body["model"] = {"type": "Unigram", "vocab": [[text, 0.0] for text in tokens(300)]}

    _rewrite(directory, "tokenizer.json", change)


def _llama3(directory: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"}}
    _rewrite(directory, "tokenizer.json", lambda body: body.update(pre_tokenizer=split))


def _in_files(text: str) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        (directory / "chat_template.jinja").write_bytes(text.encode())

    return write


def _as_it_is(_: Path) -> None:
    return


COMPARED = [
    field_case("byte pairs", "own", lambda _: None, _as_it_is, {}),
    field_case("SentencePiece", "own: its tokenizer.json has merges all the same", _sentencepiece, _as_it_is, {}),
    field_case("WordPiece", "ggml-org/llama.cpp conversion/bert.py", _marked, _as_it_is, {}),
    field_case(
        "Unigram",
        "own: T5's and XLM-R's tokenizer.json holds a list",
        _and(_sentencepiece, lambda w: w.add_tokenizer_model("t5")),
        _unigram,
        {},
    ),
    field_case(
        "SentencePiece, another token",
        "own",
        _and(_sentencepiece, lambda w: w.add_token_list([*tokens(300)[:9], "x", *tokens(300)[10:]])),
        _as_it_is,
        {"tokenizer_as_trained": FAIL},
    ),
    field_case(
        "spaces of an added token",
        "own: the converter writes them as such for Gemma",
        lambda w: w.add_token_list([*tokens(300)[:9], "a  b", *tokens(300)[10:]]),
        lambda directory: _rewrite(
            directory, "tokenizer.json", lambda body: body["added_tokens"].append({"id": 9, "content": "a▁▁b"})
        ),
        {},
    ),
    field_case(
        "one merge less", "own", lambda w: w.add_token_merges(merges(299)), _as_it_is, {"tokenizer_as_trained": FAIL}
    ),
    field_case(
        "pre is default",
        "own: numbers are split otherwise",
        lambda w: w.add_tokenizer_pre("default"),
        _llama3,
        {"tokenizer_as_trained": FAIL},
    ),
    field_case("pre splits as Llama 3 does", "own", lambda w: w.add_tokenizer_pre("llama-bpe"), _llama3, {}),
    field_case(
        "pre is Qwen 2's", "own", lambda w: w.add_tokenizer_pre("qwen2"), _llama3, {"tokenizer_as_trained": FAIL}
    ),
    field_case(
        "pre is one that nobody here knows",
        "own: many split numbers by three",
        lambda w: w.add_tokenizer_pre("gpt-4o"),
        _llama3,
        {},
    ),
    field_case(
        "a template with CRLF",
        "own: a checkout on Windows",
        lambda _: None,
        _in_files(CHAT_TEMPLATE.replace("\n", "\r\n")),
        {},
    ),
    field_case(
        "a template without its last line end",
        "own: an editor",
        lambda _: None,
        _in_files(CHAT_TEMPLATE.rstrip("\n")),
        {},
    ),
    field_case(
        "a template with a line end more within",
        "own: the model has seen one of them",
        lambda _: None,
        _in_files(CHAT_TEMPLATE.replace("<think>", "\n<think>")),
        {"tokenizer_as_trained": UNKNOWN},
    ),
    field_case(
        "no template",
        "own",
        lambda w: w.kv_data[0].pop("tokenizer.chat_template"),
        _as_it_is,
        {"tokenizer_as_trained": UNKNOWN},
    ),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("change", "trained", "expected"), COMPARED)
def test_a_vocabulary_is_the_one_that_trained(
    tmp_path: Path, change: Change, trained: Callable[[Path], object], expected: Mapping[str, Verdict]
) -> None:
    training = write_training(tmp_path / "training", TINY)
    trained(training)
    path = write_gguf(tmp_path / "m.gguf", TINY, change=change)
    assert verdicts(verify_file(path, expectation.of(training))) == expected


# What a run leaves, as the training package writes it: the base beside it, run.json, the adapter, checkpoints.
OWN_TEMPLATE = "{{ messages[0]['content'] }}<think>\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A package after its run; the export put its own template in, the base keeps another."""
    package = tmp_path / "package"
    base = write_training(package / "models" / "base", TINY)
    adapter = package / "models" / "output" / "adapter"
    checkpoint = package / "models" / "output" / "sft" / "checkpoint-10"
    for folder in (adapter, checkpoint):
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": str(base)}), encoding="utf-8"
        )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (adapter / name).write_bytes((base / name).read_bytes())
    (adapter / "chat_template.jinja").write_text(OWN_TEMPLATE, encoding="utf-8", newline="")
    shape = {name: TINY[name] for name in TINY if name.startswith(("num_", "hidden", "inter", "vocab", "tie"))}
    config = {"architecture": "Qwen2ForCausalLM", **shape, "head_dim": 64}
    (package / "run.json").write_text(json.dumps({"model": {"name": "x", "config": config}}), encoding="utf-8")
    return package


DIRECTORIES = [
    field_case("the package", "own: what --config can name", "", {}),
    field_case("the base beside it", "own: the export put its own template in", "models/base", {}),
    field_case("the finished adapter", "own: it has no config.json", "models/output/adapter", {}),
    field_case("a checkpoint", "own: it has no tokenizer", "models/output/sft/checkpoint-10", {}),
    field_case("the outputs", "own: it has neither", "models/output", {}),
]


@pytest.mark.parametrize(("folder", "expected"), DIRECTORIES)
def test_any_directory_of_a_run_passes_on_its_own_export(
    run: Path, tmp_path: Path, folder: str, expected: Mapping[str, Verdict]
) -> None:
    path = write_gguf(tmp_path / "m.gguf", TINY, change=lambda w: w.add_chat_template(OWN_TEMPLATE))
    assert verdicts(verify_file(path, expectation.of(run / folder))) == expected
    other = write_gguf(tmp_path / "o.gguf", TINY)
    assert verdicts(verify_file(other, expectation.of(run / folder))) == {"tokenizer_as_trained": FAIL}


def test_a_base_elsewhere_does_not_say_which_template_trained(run: Path, tmp_path: Path) -> None:
    base = write_training(tmp_path / "cache" / "base", TINY)
    path = write_gguf(tmp_path / "m.gguf", TINY, change=lambda w: w.add_chat_template(OWN_TEMPLATE))
    finding = by_id(verify_file(path, expectation.of(base)))["tokenizer_as_trained"]
    assert finding.verdict is UNKNOWN
    assert "Name the training's own folder" in finding.remedy
    copied = tmp_path / "adapter"
    (run / "models" / "output" / "adapter").rename(copied)
    assert not verdicts(verify_file(path, expectation.of(copied))), "base_model_name_or_path has the shape"


def test_a_directory_that_says_nothing_is_refused_with_what_helps(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no config\.json") as refused:
        expectation.of(tmp_path)
    assert "merged model" in refused.value.remedy
