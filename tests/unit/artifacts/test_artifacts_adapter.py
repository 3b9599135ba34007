"""An adapter's folder without its weights: a finding, and not a question that could not be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.artifacts import adapter
from harness.core.verdict import Verdict

CONFIG = '{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}'


@pytest.mark.parametrize(
    ("beside", "verdict", "says"),
    [
        ({}, Verdict.FAIL, "adapter_model.safetensors is not there"),
        ({"README.md": b"weights to come"}, Verdict.FAIL, "adapter_model.safetensors is not there"),
        ({"adapter_model.bin": b"PK"}, Verdict.UNKNOWN, "adapter_model.bin is a pickle, which is not read here"),
        ({"adapter_model.safetensors": b""}, Verdict.FAIL, "adapter_model.safetensors"),
    ],
)
def test_weights_that_are_missing_are_a_finding(
    tmp_path: Path, beside: dict[str, bytes], verdict: Verdict, says: str
) -> None:
    (tmp_path / "adapter_config.json").write_text(CONFIG, encoding="utf-8")
    for name, data in beside.items():
        (tmp_path / name).write_bytes(data)
    found = {finding.id: finding for finding in adapter.judge(tmp_path, None)}
    assert found["adapter_tensors"].verdict is verdict
    assert says in found["adapter_tensors"].seen
