"""Every lesson tried with the libraries installed, and two that are shown to follow what the libraries do."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.lessons import trying, verdicts
from harness.lessons.table import BY_NAME
from harness.lessons.verdicts import LessonStanding

pytestmark = pytest.mark.slow

_MAY_BE_MISSING = {
    "deepspeed-zero-trl": "deepspeed is not installed",
    "device-map-none-several-gpus": "it takes 2 GPUs",
}

PATCHED = """
import peft
import torch.utils.checkpoint
from torch.nn.parallel import DistributedDataParallel

loaded, checkpointed = peft.PeftModel.from_pretrained, torch.utils.checkpoint.checkpoint
forwarded = DistributedDataParallel.forward


def from_pretrained(model, folder, *args, is_trainable=True, **options):
    return loaded(model, folder, *args, is_trainable=is_trainable, **options)


def checkpoint(*args, use_reentrant=None, **options):
    return checkpointed(*args, use_reentrant=False, **options)


def without_a_graph(self, *args, **options):
    with torch.no_grad():
        return forwarded(self, *args, **options)


peft.PeftModel.from_pretrained = from_pretrained
torch.utils.checkpoint.checkpoint = checkpoint
DistributedDataParallel.forward = without_a_graph
"""
"""Libraries of another day: adapters load trainable, checkpointing is never reentrant, DDP loses the loss's graph."""


def test_every_lesson_has_a_verdict_and_the_recorded_ones_are_those_of_these_versions() -> None:
    tried = trying.attempt([*BY_NAME], trying.here, day="2026-01-01")
    untried = {name: one.seen for name, one in tried.verdicts.items() if one.standing is LessonStanding.UNTRIED}
    assert all(name in _MAY_BE_MISSING and _MAY_BE_MISSING[name] in why for name, why in untried.items()), untried
    assert tried.verdicts["one-process-device-map-auto"].standing is LessonStanding.WORKS
    recorded = verdicts.latest()
    assert recorded is not None
    if (recorded.libraries, recorded.place) == (tried.libraries, tried.place):
        assert recorded.verdicts == tried.verdicts, "harness lessons --write training_pkg/lessons.json"


def test_a_verdict_follows_what_the_libraries_do(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(PATCHED, encoding="utf-8")
    before = {"adapter-loaded-frozen": LessonStanding.BROKEN, "reentrant-checkpointing-by-hand": LessonStanding.BROKEN}
    before["torchrun-ddp-lora"] = LessonStanding.WORKS
    recorded = verdicts.latest()
    assert recorded is not None
    assert {name: recorded.verdicts[name].standing for name in before} == before
    tried = trying.attempt([*before], lambda names: trying.here(names, [tmp_path]), day="2026-01-01")
    after = {name: one.standing for name, one in tried.verdicts.items()}
    assert after["adapter-loaded-frozen"] is LessonStanding.WORKS, tried
    assert after["reentrant-checkpointing-by-hand"] is LessonStanding.WORKS, tried
    assert after["torchrun-ddp-lora"] is LessonStanding.BROKEN, tried
    assert "element 0 of tensors does not require grad" in tried.verdicts["torchrun-ddp-lora"].seen
