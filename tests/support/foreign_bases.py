"""Bases of other people, tiny and offline: each family's configuration, way of splitting, special tokens and template.

The shapes are those of the published files; vocabularies are learned on the spot and weights are random.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
)
_END = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
EXPRESSIONS: Mapping[str, str] = {
    "qwen2": _QWEN2,
    "llama-bpe": _QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|"),
    "tekken": rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}{_END}",
    "qwen35": _QWEN2.replace(r"\p{L}+|", r"[\p{L}\p{M}]+|"),
}

_TURN = "'<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n'"
_ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
CHATML = "{% for m in messages %}{{ " + _TURN + " }}{% endfor %}" + _ASK
CHATML_WITH_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a tiny model.<|im_end|>\\n' }}{% endif %}"
) + CHATML
HEADERS = (
    "{{- bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' "
    "+ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
DATED = HEADERS.replace(
    "{{- bos_token }}",
    "{{- bos_token }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date_string + '<|eot_id|>' }}",
)
INSTRUCTIONS = (
    "{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\\n\\n' %}"
    "{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}{{ bos_token }}{% for m in rest %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST]' + (first if loop.last or loop.index0 == rest | length - 2 else '') "
    "+ m['content'] + '[/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\\n' "
    "+ m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
THINKING = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{% set parts = m['content'].split('</think>') %}"
    "{% set why = parts[0].split('<think>')[-1].strip('\\n') if parts | length > 1 else '' %}"
    "{{ '<|im_start|>assistant\\n<think>\\n' + why + '\\n</think>\\n\\n' + parts[-1].lstrip('\\n') + '<|im_end|>\\n' }}"
    "{% else %}{{ " + _TURN + " }}{% endif %}{% endfor %}" + _ASK
)


@dataclass(frozen=True, slots=True)
class Family:
    """A family of bases; ``special`` are its special tokens in the order of their ids, ``marks`` plain added ones."""

    architecture: str
    pre: str
    template: object
    eos: str
    bos: str | None = None
    pad: str | None = None
    special: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    adds_bos: bool = False


_IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_HEADER = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_R1 = ("<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>")  # noqa: RUF001 - their own

QWEN25 = Family(
    "Qwen2ForCausalLM", "qwen2", CHATML_WITH_SYSTEM, _IM[2], None, _IM[0], _IM, config={"tie_word_embeddings": True}
)
QWEN25_BASE = Family("Qwen2ForCausalLM", "qwen2", CHATML_WITH_SYSTEM, _IM[0], None, _IM[0], _IM)
QWEN3 = Family(
    "Qwen3ForCausalLM", "qwen2", THINKING, _IM[2], None, _IM[0], _IM, ("<think>", "</think>"), {"head_dim": 32}
)
LLAMA3 = Family("LlamaForCausalLM", "llama-bpe", HEADERS, _HEADER[4], _HEADER[0], None, _HEADER, adds_bos=True)
NEMO = Family(
    "MistralForCausalLM", "tekken", INSTRUCTIONS, "</s>", "<s>", None, ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
    config={"head_dim": 32, "sliding_window": None}, adds_bos=True,
)  # fmt: skip
SMOLLM2 = Family(
    "LlamaForCausalLM", "smollm", CHATML_WITH_SYSTEM, _IM[2], _IM[1], _IM[2], _IM, config={"tie_word_embeddings": True}
)
OF_GPT2 = Family("LlamaForCausalLM", "gpt-2", CHATML, _IM[0], _IM[0], None, _IM)
PADDED = Family("Qwen2ForCausalLM", "qwen2", CHATML, _IM[2], None, _IM[0], _IM, config={"vocab_size": 1024})
R1_LLAMA = Family(
    "LlamaForCausalLM", "llama-bpe", "{{ bos_token }}", _R1[0], _R1[3], _R1[0], _R1, ("<think>", "</think>")
)

_TEXT = (
    "Where will EURUSD stand five fixings from now, compared with today? End with a direction. Direction: UP\n",
    "naïve façade, 12345.678 %, don't we'll I'VE\r\n\tif x == 1:\n        return y\n\n\n",
    "你好世界 Привет мир 日本語 ½ ² 🙂\n",
)


def write(family: Family, folder: Path) -> Path:
    """The family's base with random weights, as a directory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tokens = _write_tokenizer(family, folder)
    kind = {"Qwen2": "qwen2", "Qwen3": "qwen3", "Llama": "llama", "Mistral": "mistral"}
    model_type = kind[family.architecture.removesuffix("ForCausalLM")]
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": tokens,
        "max_position_embeddings": 2048,
        "initializer_range": 0.3,
        "tie_word_embeddings": False,
        "architectures": [family.architecture],
    }
    torch.manual_seed(7)
    config = AutoConfig.for_model(model_type, **sizes | dict(family.config))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.half().float().save_pretrained(folder)  # weights that a file of float16 holds as they are
    return folder


def change(folder: Path, name: str, **fields: Any) -> None:
    """Set fields of one of a base's JSON files; None takes a field away."""
    path = folder / name
    body = json.loads(path.read_text(encoding="utf-8")) | fields
    kept = {key: value for key, value in body.items() if value is not None}
    path.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")


def _write_tokenizer(family: Family, folder: Path) -> int:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=family.pre in {"gpt-2", "smollm"})
    if family.pre == "smollm":
        made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    elif family.pre in EXPRESSIONS:
        split = pre_tokenizers.Split(Regex(EXPRESSIONS[family.pre]), behavior="isolated")
        made.pre_tokenizer = pre_tokenizers.Sequence([split, words])
    else:
        made.pre_tokenizer = words
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        _TEXT * 4, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    )
    made.add_special_tokens(list(family.special))
    made.add_tokens(list(family.marks))
    if family.adds_bos and family.bos:
        bos = (family.bos, made.token_to_id(family.bos))
        made.post_processor = processors.TemplateProcessing(single=f"{family.bos} $A", special_tokens=[bos])
    made.save(str(folder / "tokenizer.json"))
    named = {
        "bos_token": family.bos,
        "eos_token": family.eos,
        "pad_token": family.pad,
        "chat_template": family.template,
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **named}
    kept = {key: value for key, value in settings.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
    return int(made.get_vocab_size())
