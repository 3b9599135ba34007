"""A model of some thousand random weights, and a tokenizer of your own rows: to rehearse with, and no more."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, set_seed

SHAPE = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 512,
}


def make(folder: str, data: str) -> None:
    """Write configuration, tokenizer and weights into a folder, unless they are there."""
    torch.set_num_threads(1)  # more of them are no faster with so little to do
    if (Path(folder) / "model.safetensors").exists():
        return
    rows = [json.loads(line) for line in Path(data).read_text(encoding="utf-8").splitlines() if line.strip()]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=SHAPE["vocab_size"], special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator((text for row in rows for text in row.values() if isinstance(text, str)), trainer)
    named = dict(zip(("pad_token", "bos_token", "eos_token"), special, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **named)
    tokenizer.save_pretrained(folder)
    set_seed(17)
    config = LlamaConfig(**SHAPE, pad_token_id=0, bos_token_id=1, eos_token_id=2, max_position_embeddings=1024)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
