"""Makes the base model that the plain script fine-tunes: two random layers, and a tokenizer of the rows' own bytes."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

built = Tokenizer(models.BPE())
built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
built.decoder = decoders.ByteLevel()
special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
alphabet = pre_tokenizers.ByteLevel.alphabet()
rows = Path("data/conversations.jsonl").read_text(encoding="utf-8").splitlines()
learner = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
built.train_from_iterator(rows, learner)
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=built, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
)
tokenizer.save_pretrained("base")

torch.manual_seed(7)
config = Qwen2Config(
    vocab_size=320,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=128,
    max_position_embeddings=512,
    tie_word_embeddings=False,
    eos_token_id=tokenizer.eos_token_id,
    pad_token_id=tokenizer.pad_token_id,
)
Qwen2ForCausalLM(config).save_pretrained("base")
