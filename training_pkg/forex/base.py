"""The base model as a local directory: found, fetched from the hub, or built on the spot for a rehearsal."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from . import durable, gguf_model, hub, template
from .config import Model, Shape
from .errors import BadConfig
from .weights import read_object

_OF_TOKENIZER = ("tokenizer", "chat_template", "special_tokens_map", "added_tokens")
"""How the names of a tokenizer's files begin."""

_SPREAD = 0.1
"""Of the biases and norms of a model that is built on the spot; a trained model's are of this order."""

_SAMPLED = 7
"""Every seventh text teaches a vocabulary that is learned on the spot: rows of one kind have the same words.

Odd, for prompts and completions take turns.
"""

_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's pre-tokenizer, from its tokenizer.json."""


def directory(model: Model, texts: Iterable[str], seed: int) -> Path:
    """The model's directory. ``texts`` train the vocabulary of a model that is built on the spot."""
    path = Path(model.name)
    if model.built is not None:
        return _built(path, model.built, texts, seed)
    return hub.found(model.name)


def tokenizer(path: Path) -> Any:
    """A model's tokenizer as its tokenizer.json has it.

    The class that transformers would pick for it may add a token of its own under a new id (Qwen2Tokenizer
    adds ``<|endoftext|>`` to a vocabulary that lacks it). A tokenizer without a padding token (Llama 3's) pads with its
    end of sentence: the trainer would set that, too, but an export in a process of its own has no trainer.
    """
    try:
        words = PreTrainedTokenizerFast.from_pretrained(str(path))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BadConfig(f"{path} has no tokenizer.json that can be read: {str(error)[:200]}") from error
    if words.eos_token is None:
        raise BadConfig(f"the tokenizer in {path} names no end of sentence (eos_token), so no answer would end")
    if words.pad_token is None:
        words.pad_token = words.eos_token
    return words


def _built(path: Path, shape: Shape, texts: Iterable[str], seed: int) -> Path:
    """A model of this shape with random weights; left as it is when it was built before from the same shape."""
    wanted = {"shape": dataclasses.asdict(shape), "seed": seed}
    note = path / "built.json"
    if note.is_file() and json.loads(note.read_text(encoding="utf-8")) == wanted:
        return path
    with durable.replacing_folder(path) as partial:
        if shape.like:
            _write_like(hub.found(shape.like, weights=False), shape, seed, partial)
        else:
            learned = _learned_tokenizer(itertools.islice(texts, 0, None, _SAMPLED), shape.vocab_size)
            _drawn(_qwen2(shape, learned), seed).save_pretrained(partial)
            learned.save_pretrained(partial)
        (partial / note.name).write_text(json.dumps(wanted), encoding="utf-8")
    return path


def _write_like(other: Path, shape: Shape, seed: int, folder: Path) -> None:
    """A base's configuration, made small, with random weights and the base's own tokenizer."""
    described = read_object(other / "config.json")
    gguf_model.refuse_unknown(described)
    small = {name: size for name, size in _sizes(shape).items() if name != "vocab_size"}
    if "head_dim" in described:
        small["head_dim"] = shape.hidden_size // shape.num_attention_heads
    for name in ("layer_types", "torch_dtype", "dtype"):
        described.pop(name, None)
    _drawn(AutoConfig.for_model(**described | small), seed).save_pretrained(folder)
    for path in other.iterdir():
        if path.is_file() and path.name.startswith(_OF_TOKENIZER):
            shutil.copyfile(path, folder / path.name)


def _sizes(shape: Shape) -> dict[str, int]:
    return {name: size for name, size in dataclasses.asdict(shape).items() if name != "like"}


def _qwen2(shape: Shape, words: Any) -> Qwen2Config:
    return Qwen2Config(
        **_sizes(shape) | {"vocab_size": len(words)},
        architectures=["Qwen2ForCausalLM"],
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


def _drawn(config: Any, seed: int) -> Any:
    """A model of this configuration, with weights drawn from the seed."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    # Fresh biases are zero and fresh norms one: an export that lost or swapped them would go unnoticed.
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(parameter, mean=float("norm" in name), std=_SPREAD)
    return model


def _learned_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """A byte-level BPE learned from the texts, with R1's special tokens and Qwen2's way of splitting."""
    special = [template.EOS, template.BOS, template.USER, template.ASSISTANT]
    marks = [template.THINK, template.END_THINK]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size - len(special) - len(marks),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    bpe.add_special_tokens(special)
    bpe.add_tokens(marks)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=template.BOS,
        eos_token=template.EOS,
        pad_token=template.EOS,
        chat_template=template.CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
