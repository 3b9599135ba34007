"""A tiny model, a few rows and the trainings that the experiments share."""

from __future__ import annotations

import os
import socket
from typing import Any

import torch
import torch.distributed as dist
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.distributed.fsdp import FullyShardedDataParallel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import SFTConfig, SFTTrainer


def base() -> Any:
    """A Qwen2 of two layers with random weights, the same in each process."""
    torch.manual_seed(7)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 64}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64}
    return Qwen2ForCausalLM(Qwen2Config(**shape, **heads, pad_token_id=0, eos_token_id=1, tie_word_embeddings=False))


def loaded(folder: str = "base", **options: Any) -> Any:
    """A saved model, loaded as a script does."""
    return AutoModelForCausalLM.from_pretrained(folder, **options)


def _lora() -> Any:
    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


def with_lora(model: Any) -> Any:
    """The model with an adapter, the same in each process."""
    torch.manual_seed(11)
    return get_peft_model(model, _lora())


def _trainer(model: Any, *, lora: bool = True, **options: Any) -> Any:
    """TRL's SFTTrainer over 64 rows of words, for two steps; on GPUs where each rank has one."""
    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2, **{f"w{number}": number for number in range(3, 60)}}
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=special["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    rows = [{"text": " ".join(f"w{3 + (row * 7 + at) % 57}" for at in range(8))} for row in range(64)]
    usual: dict[str, Any] = {
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "gradient_checkpointing": False,
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": gpus() < int(os.environ.get("WORLD_SIZE", "1")),
    }
    return SFTTrainer(
        model=model,
        args=SFTConfig(output_dir="out", **(usual | options)),
        train_dataset=Dataset.from_list(rows),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special),
        peft_config=_lora() if lora else None,
    )


def train(model: Any, *, wrapped: str = "", lora: bool = True, **options: Any) -> str:
    """Train; how the model is wrapped, or an adapter that did not move, where that is not as asked."""
    trainer = _trainer(model, lora=lora, **options)
    trainer.train()
    kind = type(trainer.model_wrapped).__name__
    if not kind.startswith(wrapped):
        return f"type(trainer.model_wrapped) is {kind}, where {wrapped} was asked for"
    return _unmoved(trainer.accelerator.unwrap_model(trainer.model_wrapped))


def train_saving(steps: int, resume: str | None = None) -> Any:
    """The model after a training with a checkpoint every two steps."""
    trainer = _trainer(base(), max_steps=steps, save_strategy="steps", save_steps=2)
    trainer.train(resume_from_checkpoint=resume)
    return trainer.model


def steps(model: Any) -> str:
    """Two steps without a Trainer."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(2):
        tokens = torch.randint(3, 60, (2, 8))
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return _unmoved(model)


def fsdp1(model: Any, *, use_orig_params: bool) -> str:
    """Two steps of a model that is wrapped as a whole."""
    dist.init_process_group("gloo")
    return steps(FullyShardedDataParallel(model, use_orig_params=use_orig_params, device_id=torch.device("cpu")))


def _unmoved(model: Any) -> str:
    """Adapters that training has left at the zero with which lora_B begins."""
    adapters = {name: one.detach() for name, one in model.named_parameters() if "lora_B" in name}
    still = [name for name, one in adapters.items() if not bool((one != 0).any())]
    if not adapters:
        return "no lora_B is left in the model"
    return f"{len(still)} lora_B did not move, {still[0]} first" if still else ""


def equal(one: Any, other: Any) -> bool:
    """True when two models have the same weights, to the bit."""
    others = dict(other.named_parameters())
    return all(torch.equal(value, others[name]) for name, value in one.named_parameters())


def gpus() -> int:
    """Number of GPUs that are visible."""
    return torch.cuda.device_count()


def free_port() -> int:
    """A port of this machine that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
