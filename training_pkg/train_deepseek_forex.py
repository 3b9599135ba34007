"""Fine-tunes DeepSeek-R1-Distill-Qwen on foreign-exchange data: SFT, DPO, merge, GGUF.

    python3 train_deepseek_forex.py --stage all

One process, the model split over the GPUs by ``device_map="auto"``; no launcher. See README.md.
"""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info < (3, 11):  # noqa: UP036 - the box's Python is whatever its image brought
    sys.exit(f"TRAINING FAILED: Python {sys.version.split()[0]} is too old; use an image with 3.11 or newer")

from forex.cli import main

BATCH_SIZE = 32  # samples an optimizer step


def load_base_model(source: str, dtype: Any, attention: str) -> Any:
    """The base model with its layers spread over all visible GPUs, or on the CPU when there is none."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - slow to import, and preparing data needs none

    return AutoModelForCausalLM.from_pretrained(
        source,
        dtype=dtype,
        device_map="auto",  # the one way that works with LoRA over several GPUs: do not remove
        attn_implementation=attention,
        trust_remote_code=False,  # no base that is exported needs it, and the box is not ours
        use_safetensors=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], batch_size=BATCH_SIZE, load_base_model=load_base_model))
