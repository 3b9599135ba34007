"""The forex fine-tuning package: data, SFT, DPO, merge, GGUF. It imports nothing of the harness."""
