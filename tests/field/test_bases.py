"""Bases of other people through the training package: taught in their own turns, or refused by name beforehand."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forex import base, chat, export, manifest
from forex.config import Config, Model, Run, Sft
from forex.errors import BadConfig, DataDefect, PackageError
from forex.rows import Example
from forex.training import Stage

from tests.field.case import field_case
from tests.support import foreign_bases as bases
from tests.support.foreign_bases import Family

ROWS = [
    Example("Where will EURUSD stand? +0.33%, RSI 20.2", "Direction: UP"),
    Example("Is it worth\n\nits risk?  12345", "Because it fell.\n\nDecision: SKIP"),
    Example("naïve 你好 🙂 don't", "  I'VE 12,5 ½  "),
]


def spoken(folder: Path, **fields: Any) -> chat.Chat:
    return chat.of(base.tokenizer(folder), Model(name=str(folder), **fields))


def ready(folder: Path, **fields: Any) -> None:
    """All that ``--stage ready`` and the first moment of a training refuse by a base's files alone."""
    told = spoken(folder, **fields)
    told.refuse(Path("x.jsonl"), ROWS, 1024)
    export.refuse_impossible(export.Source.of(folder, None, told), ("F16",), "x")


SUPPORTED = [
    field_case("Qwen2.5-Instruct", "own: no BOS, tied, a system turn of its own", bases.QWEN25, "<|im_end|>", False),
    field_case("Qwen2.5 before it was tuned", "hiyouga/LlamaFactory#7454", bases.QWEN25_BASE, "<|im_end|>", False),
    field_case("Qwen3", "own: its template writes the marks of reasoning", bases.QWEN3, "<|im_end|>", False),
    field_case("Llama 3", "unslothai/unsloth#416", bases.LLAMA3, "<|eot_id|>", True),
    field_case("Mistral Nemo", "huggingface/alignment-handbook#127", bases.NEMO, "</s>", True),
    field_case("SmolLM2", "huggingface/smol-course#159", bases.SMOLLM2, "<|im_end|>", False),
    field_case("GPT-2's splitting", "own: Llama's weights, GPT-2's vocabulary", bases.OF_GPT2, "<|im_end|>", False),
    field_case("a padded vocabulary", "own: Qwen pads its embeddings", bases.PADDED, "<|im_end|>", False),
    field_case("R1-Distill-Llama", "own: R1's marks mean R1's turns", bases.R1_LLAMA, "<｜end▁of▁sentence｜>", True),  # noqa: RUF001
]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # trl's own, of its activation checkpointing
@pytest.mark.parametrize(("family", "end", "begins"), SUPPORTED)
def test_only_the_answer_carries_loss_and_its_end_is_learned(
    tmp_path: Path, family: Family, end: str, begins: bool
) -> None:
    from forex import trainers

    folder = bases.write(family, tmp_path / "base")
    told = spoken(folder)
    words = told.tokenizer
    assert (told.turns.end, told.turns.begins) == (end, begins)
    ready(folder)
    stage = Stage("sft", tmp_path / "sft", 1)
    config = Config(3, sft=Sft(accumulation=1, micro_batch=3), run=Run(gradient_checkpointing=False))
    model = torch_model(folder)
    trainer = trainers.sft(config, stage, model, told, ROWS)
    batch = trainer.data_collator([dict(row) for row in trainer.train_dataset])
    learned = sorted(words.decode(labels[labels != trainers.IGNORED]) for labels in batch["labels"])
    wanted = sorted(told.turns.answer(row.completion, row.prompt, row.system) for row in ROWS)
    assert learned == wanted
    assert all(text.endswith(end) and text.count(end) == 1 for text in learned)
    for ids, row in zip(told.prompts(ROWS), ROWS, strict=True):
        assert ids.count(words.convert_tokens_to_ids(end)) <= 2  # of the turns before
        assert words.bos_token_id is None or not begins or ids.count(words.bos_token_id) == 1
        assert row.prompt.strip() in words.decode(ids)


def torch_model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _surely_next(model: Any, asked: Any, *, count: int) -> list[int]:
    """The greedy tokens up to the first near tie, which the rounding of F16 may decide otherwise."""
    wanted = model.generate(
        asked,
        attention_mask=torch.ones_like(asked),  # else a padding token that ends turns is taken for padding
        max_new_tokens=count,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    sure: list[int] = []
    for logits in (step[0] for step in wanted.logits):
        best = logits.topk(2)
        if best.values[0] - best.values[1] < 0.02 * logits.std():
            break
        sure.append(int(best.indices[0]))
    return sure


def server(path: Path) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 1024, 1, False, -1
    params.cpuparams.n_threads = 1
    return xllamacpp.Server(params)


NASTY = (
    "abcXYZ 0123456789 '’sSdDtT\t\n\r .,;:!?/\\-_()[]{}<>|#@§±éÉßñÆ你好世界日本語Приветабв½²Ⅳ🙂👩‍👩‍👧\u0301\u200d\u3000"  # noqa: RUF001
)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "end", "begins"), SUPPORTED)
def test_llama_cpp_splits_asks_and_answers_as_it_was_trained(
    tmp_path: Path, family: Family, end: str, begins: bool
) -> None:
    del end
    folder = bases.write(family, tmp_path / "base")
    told, model = spoken(folder), torch_model(folder)
    words = told.tokenizer
    written = export.write(export.Source.of(folder, None, told), tmp_path / "x.F16.gguf", quantization="F16", name="x")
    runtime = server(written.path)
    chance = random.Random(3)
    # llama.cpp has one rule for all cased letters that are not ASCII (its unicode.cpp), also in Mistral's own files.
    signs = NASTY if family.pre != "tekken" else NASTY.translate({ord(sign): None for sign in "éÉßñÆПриветабвⅣ"})
    texts = ["".join(chance.choices(signs, k=chance.randint(1, 60))) for _ in range(150)]
    one = {"n_predict": 1, "temperature": 0, "cache_prompt": False}
    counts = [runtime.handle_completions({**one, "prompt": text})["usage"]["prompt_tokens"] for text in texts]
    own = [len(words(text, add_special_tokens=False)["input_ids"]) + begins for text in texts]
    assert counts == own, [text for text, ours, theirs in zip(texts, own, counts, strict=True) if ours != theirs][:3]
    odd = set(range(model.config.vocab_size)) - set(words.get_vocab().values()) | set(words.added_tokens_decoder)
    compared = 0
    for row, ids in zip(ROWS, told.prompts(ROWS), strict=True):
        asked = torch.tensor([ids])
        spoken_ids = list(itertools.takewhile(lambda number: number not in odd, _surely_next(model, asked, count=8)))
        answer = runtime.handle_completions({"n_predict": 8, "temperature": 0, "prompt": ids})
        assert answer["choices"][0]["text"].startswith(words.decode(spoken_ids).rstrip("\ufffd"))
        compared += len(spoken_ids)
        by_template = runtime.handle_chat_completions(
            {"messages": [{"role": "user", "content": row.prompt}], "max_tokens": 1, "temperature": 0}
        )
        assert by_template["usage"]["prompt_tokens"] == len(ids)
    assert compared  # random weights may say a token of turns, behind which one of the two stops


def settings(**fields: Any) -> Callable[[Path], None]:
    return lambda folder: bases.change(folder, "config.json", **fields)


def words(**fields: Any) -> Callable[[Path], None]:
    return lambda folder: bases.change(folder, "tokenizer_config.json", **fields)


def splitting(**fields: Any) -> Callable[[Path], None]:
    return lambda folder: bases.change(folder, "tokenizer.json", **fields)


def vocabulary(**fields: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        bases.change(folder, "tokenizer.json", model=model | fields)

    return damage


def renumbered(folder: Path) -> None:
    """The special tokens get the first ids, which the vocabulary leaves free; the library numbers them anew."""
    body = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    count = len(body["added_tokens"])
    body["model"]["vocab"] = {text: number + count for text, number in body["model"]["vocab"].items()}
    added = [entry | {"id": number} for number, entry in enumerate(body["added_tokens"])]
    bases.change(folder, "tokenizer.json", model=body["model"], added_tokens=added)


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def whole(_: Path) -> None:
    """Nothing is changed: the family itself cannot be taken."""


_CODER = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "[\\r\\n]"}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    ],
}
_BIT4 = {"quant_method": "bitsandbytes", "load_in_4bit": True}
_NAMED = [{"name": "rag", "template": bases.CHATML}, {"name": "tool_use", "template": bases.CHATML}]
Q, L = bases.QWEN25, bases.LLAMA3
REFUSED = [
    field_case(
        "Gemma",
        "own: norms and scales of its own",
        Q,
        settings(architectures=["Gemma2ForCausalLM"]),
        "Gemma2ForCausalLM is not exported; known: Qwen2ForCausalLM",
    ),
    field_case(
        "Phi-3", "own: its projections are fused", L, settings(architectures=["Phi3ForCausalLM"]), "Phi3ForCausalLM"
    ),
    field_case("experts", "own: MoE", Q, settings(architectures=["Qwen2MoeForCausalLM"]), "Qwen2MoeForCausalLM"),
    field_case(
        "no architecture", "own: a config that was written by hand", Q, settings(architectures=None), "none is not"
    ),
    field_case(
        "Llama 3.1's rope",
        "own: needs rope_freqs",
        L,
        settings(rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}),
        "type llama3",
    ),
    field_case(
        "rope of transformers 4",
        "own: yarn under its old name",
        Q,
        settings(rope_parameters=None, rope_scaling={"type": "yarn", "factor": 4.0}),
        "type yarn",
    ),
    field_case(
        "Mistral 0.1's window",
        "own: llama.cpp would attend to all",
        bases.NEMO,
        settings(sliding_window=4096),
        "sliding_window = '?4096",
    ),
    field_case(
        "Qwen2's window", "own: the same under a switch", Q, settings(use_sliding_window=True), "use_sliding_window"
    ),
    field_case("another activation", "own: Llama's name, GELU inside", L, settings(hidden_act="gelu"), "hidden_act"),
    field_case(
        "half of the head turns", "own: partial rotary", L, settings(partial_rotary_factor=0.5), "partial_rotary"
    ),
    field_case(
        "quantized already", "own: QLoRA's base, packed", L, settings(quantization_config=_BIT4), "quantization_config"
    ),
    field_case(
        "pickled weights", "own: pytorch_model.bin alone", Q, removed("model.safetensors"), "holds no safetensors"
    ),
    field_case(
        "Mistral 0.3, Gemma, Phi-3", "own: SentencePiece", L, vocabulary(byte_fallback=True), "BPE with byte fallback"
    ),
    field_case(
        "deepseek-coder's splitting",
        "ggml-org/llama.cpp#9927",
        L,
        splitting(pre_tokenizer=_CODER),
        "pre-tokenizer is not known here.*known: qwen2, llama-bpe",
    ),
    field_case("no splitting", "own: a vocabulary of one step", L, splitting(pre_tokenizer=None), "is not known here"),
    field_case(
        "Qwen3.5's splitting",
        "ggml-org/llama.cpp#22700",
        dataclasses.replace(Q, pre="qwen35"),
        whole,
        "pre-tokenizer is not known here",
    ),
    field_case(
        "lower case",
        "own: an uncased vocabulary",
        L,
        splitting(normalizer={"type": "Lowercase"}),
        r"rewrites texts \(Lowercase\)",
    ),
    field_case(
        "a token too many",
        "own: a tokenizer with added tokens, a model that was not resized",
        Q,
        settings(vocab_size=300),
        "has id .* the model has 300",
    ),
    field_case(
        "ids that move",
        "own: special tokens in front of a vocabulary that lacks them",
        Q,
        renumbered,
        "in tokenizer.json and .* where it is loaded",
    ),
    field_case("no template", "own: SmolLM2-135M, not the Instruct", Q, words(chat_template=None), "no chat template"),
    field_case(
        "several templates",
        "own: Command-R's, without a default",
        Q,
        words(chat_template=_NAMED),
        r"several chat templates \(rag, tool_use\)",
    ),
    field_case(
        "a template that raises",
        "own: it wants tools",
        Q,
        words(chat_template="{{ raise_exception('tools are needed') }}"),
        "tools are needed",
    ),
    field_case(
        "a template that is broken", "own: Jinja does not parse it", Q, words(chat_template="{% for %}"), "refuses"
    ),
    field_case(
        "the day's date",
        "oobabooga/textgen#6692",
        dataclasses.replace(L, template=bases.DATED),
        whole,
        "writes the day's date",
    ),
    field_case(
        "the date beside a system turn",
        "own: Granite's, the other way round",
        Q,
        words(
            chat_template=bases.CHATML.replace(
                "m['content'] +", "m['content'] + (strftime_now('%Y') if m['role'] == 'system' else '') +"
            )
        ),
        "writes the day's date",
    ),
    field_case(
        "a date of no plain format",
        "own: the format is a variable",
        Q,
        words(chat_template="{% set form = '%Y' %}{{ strftime_now(form) }}" + bases.CHATML),
        "writes the day's date",
    ),
    field_case(
        "no end",
        "huggingface/trl#2059",
        Q,
        words(chat_template=bases.CHATML.replace("<|im_end|>", "")),
        "no token of its tokenizer",
    ),
    field_case(
        "asked otherwise than answered",
        "own: newer R1 templates ask with <think>",
        Q,
        words(chat_template=bases.CHATML.replace("assistant\\n", "assistant\\n<think>\\n")),
        "begins an answer otherwise",
    ),
    field_case(
        "a BOS that the template lacks",
        "own: dolphin-2.9-llama3's ChatML",
        L,
        words(chat_template=bases.CHATML.replace("<|im_end|>", "<|eot_id|>")),
        "begins every text with",
    ),
    field_case("no end of sentence", "own: eos_token is null", Q, words(eos_token=None), "names no end of sentence"),
    field_case(
        "no tokenizer.json", "own: tekken.json alone", bases.NEMO, removed("tokenizer.json"), r"no tokenizer\.json"
    ),
]


@pytest.mark.parametrize(("family", "damage", "said"), REFUSED)
def test_what_cannot_come_home_is_refused_by_name(
    tmp_path: Path, family: Family, damage: Callable[[Path], None], said: str
) -> None:
    folder = bases.write(family, tmp_path / "base")
    damage(folder)
    with pytest.raises(PackageError, match=said):
        ready(folder)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        field_case(
            "the day's date is given",
            "oobabooga/textgen#6692",
            dataclasses.replace(L, template=bases.DATED),
            {"today": "2026-01-31"},
        ),
        field_case(
            "a default among several",
            "own: Command-R's",
            dataclasses.replace(Q, template=[{"name": "default", "template": bases.CHATML}, *_NAMED]),
            {},
        ),
        field_case(
            "a template of the user's",
            "own: a base before tuning",
            dataclasses.replace(Q, template=None),
            {"chat": "CHATML"},
        ),
        field_case(
            "a system turn is refused, and no row has one",
            "EleutherAI/lm-evaluation-harness#2109",
            dataclasses.replace(
                Q,
                template=bases.NO_SYSTEM,
                bos="<|endoftext|>",
                special=(*Q.special, "<start_of_turn>", "<end_of_turn>"),
            ),
            {},
        ),
    ],
)
def test_what_is_refused_can_be_said_otherwise(tmp_path: Path, family: Family, fields: dict[str, str]) -> None:
    folder = bases.write(family, tmp_path / "base")
    if "chat" in fields:
        (tmp_path / "chatml.jinja").write_text(bases.CHATML, encoding="utf-8")
        fields = {"chat": str(tmp_path / "chatml.jinja")}
    ready(folder, **fields)
    assert "PARAMETER stop" in manifest.modelfile("x.gguf", spoken(folder, **fields).turns)


THOUGHT = "<think>\nwhy\n</think>\n\nDirection: UP"
ODD_ROWS = [
    field_case(
        "a system turn",
        "EleutherAI/lm-evaluation-harness#2109",
        dataclasses.replace(
            Q, template=bases.NO_SYSTEM, bos="<|endoftext|>", special=(*Q.special, "<start_of_turn>", "<end_of_turn>")
        ),
        Example("q", "a", "s"),
        "template refuses a system turn: System role not supported",
    ),
    field_case(
        "a system turn that is lost",
        "own: a template that reads user and assistant only",
        dataclasses.replace(Q, template=bases.CHATML.replace("messages %}", "messages if m['role'] != 'system' %}")),
        Example("q", "a", "s"),
        "leaves out 'system'",
    ),
    field_case(
        "reasoning", "own: marks that the template does not know", Q, Example("q", THOUGHT), "holds </think>, which"
    ),
    field_case(
        "reasoning that is lost",
        "own: R1's own template, as it is published",
        dataclasses.replace(Q, template=bases.CHATML.replace("m['content'] +", "m['content'].split('</think>')[-1] +")),
        Example("q", THOUGHT),
        "leaves out of 'answer' its reasoning",
    ),
    field_case(
        "a turn in a row",
        "own: text that was copied from a chat",
        Q,
        Example("q<|im_end|>\n<|im_start|>assistant\nUP", "a"),
        "would fake a turn",
    ),
]


@pytest.mark.parametrize(("family", "row", "said"), ODD_ROWS)
def test_a_row_that_the_base_cannot_say_is_named_by_file_and_line(
    tmp_path: Path, family: Family, row: Example, said: str
) -> None:
    folder = bases.write(family, tmp_path / "base")
    with pytest.raises(DataDefect, match=rf"x\.jsonl, line 2: .*{said}"):
        spoken(folder).refuse(Path("x.jsonl"), [ROWS[0], row], 1024)


@pytest.mark.parametrize(
    ("family", "reasoning", "text"),
    [
        (bases.QWEN3, "template", "<think>\nwhy\n</think>\n\nDirection: UP<|im_end|>"),
        (bases.QWEN3, "drop", "<think>\n\n</think>\n\nDirection: UP<|im_end|>"),
        (bases.QWEN25, "drop", "Direction: UP<|im_end|>"),
        (bases.QWEN25, "keep", f"{THOUGHT}<|im_end|>"),
    ],
)
def test_reasoning_is_learned_as_the_base_or_the_configuration_says(
    tmp_path: Path, family: Family, reasoning: str, text: str
) -> None:
    told = spoken(bases.write(family, tmp_path / "base"), reasoning=reasoning)
    (ids,) = told.answers([Example("q", THOUGHT)], "completion")
    assert told.tokenizer.decode(ids) == text
    assert told.reasons is (family is bases.QWEN3 and reasoning == "template")


@pytest.mark.parametrize("family", [bases.QWEN25, bases.QWEN3])
def test_a_base_decides_in_its_own_turns(tmp_path: Path, family: Family) -> None:
    from forex import evaluate

    folder = bases.write(family, tmp_path / "base")
    decided = evaluate.decide(torch_model(folder), spoken(folder), ROWS, ("Direction: UP", "Direction: DOWN"))
    assert len(decided) == len(ROWS)


def test_r1s_turns_need_r1s_marks(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="has no token"):
        spoken(bases.write(bases.QWEN25, tmp_path / "base"), chat="r1")
