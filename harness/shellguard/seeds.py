"""The first user's rules, by document and section: what a mark ``seed`` may name, and the checks that bear it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from harness.core.errors import BadInput
from harness.shellguard.handbook import CheckClaim

AGENT: Final = "vastai-training-agent.md"
SPEED: Final = "VASTAI_MAX_SPEED_AGENT.md"


@dataclass(frozen=True, slots=True)
class SeedRule:
    """A rule of a document, or a claim, by its name there, in a few of its own words."""

    document: str
    rule: str
    words: str
    differs: str = ""
    """Where and why the harness does otherwise, or does not show it."""


RULES: Final[tuple[SeedRule, ...]] = (
    SeedRule(AGENT, "read these files first", "before any training operation, read these files in order"),
    SeedRule(AGENT, "rule 1", "never destroy an instance until the download is verified locally"),
    SeedRule(AGENT, "rule 2", 'device_map="auto", BATCH_SIZE = 32, no accelerate launch, DeepSpeed or FSDP'),
    SeedRule(AGENT, "rule 3", "the log must show V2 FOREX INTEGRATION with the counts of your data, else stop"),
    SeedRule(AGENT, "rule 4", "checkpoints save every 100 steps; verify that they exist"),
    SeedRule(AGENT, "rule 5", "SFT 330 steps at 4.4 s, DPO ~80 at 6 s, GGUF ~5 min: ~40 min"),
    SeedRule(AGENT, "step 1", "verify that the training is complete: (COMPLETE|GGUF|Saved), the GGUF file exists"),
    SeedRule(AGENT, "step 2", "download the model, and wait for it to complete"),
    SeedRule(AGENT, "step 3", "verify the local file: >5GB for Q8_0, >3GB for Q4_K_M"),
    SeedRule(AGENT, "step 4", "only now destroy the instance"),
    SeedRule(AGENT, "download script", "checks the remote file, verifies the local size, asks before it destroys"),
    SeedRule(AGENT, "if training dies", "the training resumes from the latest checkpoint"),
    SeedRule(AGENT, "cost reference", "$16/hr, full training ~$11; a premature destroy wastes it"),
    SeedRule(AGENT, "quick reference", "check progress, loss, GPU utilization and whether the GGUF exists"),
    SeedRule(
        SPEED,
        "achieved",
        "89% accuracy",
        differs="not reproducible here: neither its rows nor the way it was counted are told. What it would take is "
        "--stage evaluate on rows later than any training row, its interval above the majority class and the base",
    ),
    SeedRule(SPEED, "download before destroy", "training completes, download, verify >5GB, only then destroy"),
    SeedRule(SPEED, "doesn't work 1", "FSDP with PEFT/LoRA: gradient issues"),
    SeedRule(SPEED, "doesn't work 2", "DeepSpeed ZeRO with accelerate: compatibility issues with TRL"),
    SeedRule(SPEED, "doesn't work 3", "torchrun DDP with LoRA: element 0 of tensors does not require grad"),
    SeedRule(SPEED, "doesn't work 4", "multi-process data loading: files not ready on all ranks"),
    SeedRule(SPEED, "optimal configuration", 'BATCH_SIZE = 32, device_map="auto": do not remove'),
    SeedRule(
        SPEED,
        "trust remote code",
        "trust_remote_code=True in the call that loads the model",
        differs="the package loads without it: Qwen2 and Llama are in transformers itself, and no code of the hub runs",
    ),
    SeedRule(
        SPEED,
        "image",
        "pytorch/pytorch:2.1.0-cuda12.1-cudnn8-devel",
        differs="the profile names a newer one, for its transformers need torch 2.6 and Python 3.11",
    ),
    SeedRule(SPEED, "quick start 1", "rent 8x H100 SXM at $16/hr, disk 150"),
    SeedRule(SPEED, "quick start 2", "upload the training package"),
    SeedRule(SPEED, "quick start 3", "install what requirements.txt names"),
    SeedRule(SPEED, "quick start 4", "set the batch size to 32"),
    SeedRule(SPEED, "quick start 5", "run in tmux, the output in training.log"),
    SeedRule(SPEED, "quick start 6", "monitor nvidia-smi and training.log"),
    SeedRule(SPEED, "quick start 7", "destroy when done, to stop billing"),
    SeedRule(SPEED, "expected performance", "SFT 330 steps at 4.4 s, DPO ~80 at 6 s, GGUF ~5 min: ~40 min"),
    SeedRule(SPEED, "cost estimate", "$16/hr for ~40 min: ~$11"),
    SeedRule(
        SPEED,
        "2.5x",
        "still 2.5x faster than a single GPU",
        differs="not measured here; benchmarks/bench_gpu.py measures it where there is a GPU",
    ),
    SeedRule(SPEED, "checkpoints", "they save every 100 steps; the script finds the latest and resumes"),
    SeedRule(SPEED, "step 1", "verify that the training is complete: a GGUF file >5GB on the box"),
    SeedRule(SPEED, "step 2", "download, and wait for completion"),
    SeedRule(SPEED, "step 3", "verify the local file: its size is >5GB"),
    SeedRule(SPEED, "step 4", "only now destroy"),
    SeedRule(SPEED, "safe download script", "verifies before it destroys"),
)
"""In the order of the documents."""


def trace(checks: Iterable[CheckClaim]) -> Mapping[SeedRule, tuple[CheckClaim, ...]]:
    """Every rule, with the checks whose marks name it. Raises BadInput for a mark that names none of ``RULES``."""
    known = {(rule.document, rule.rule): rule for rule in RULES}
    kept: dict[SeedRule, tuple[CheckClaim, ...]] = dict.fromkeys(RULES, ())
    for claim in checks:
        for seed in claim.seeds:
            if seed not in known:
                raise BadInput(f"{claim.stage}/{claim.check}: no rule is named {', '.join(seed)}")
            kept[known[seed]] += (claim,)
    return kept


def as_markdown(traced: Mapping[SeedRule, tuple[CheckClaim, ...]]) -> str:
    """The rules, document by document, each with the checks that keep it."""
    lines: list[str] = []
    for document in dict.fromkeys(rule.document for rule in traced):
        lines += ["", f"## {document}", ""] if lines else [f"## {document}", ""]
        for rule, claims in traced.items():
            if rule.document == document:
                checks = ", ".join(f"`{claim.stage}/{claim.check}`" for claim in claims)
                differs = f"differs: {rule.differs}" if rule.differs else ""
                told = "; ".join(part for part in (checks, differs) if part)
                lines.append(f"- **{rule.rule}** ({rule.words}): {told}")
    return "\n".join(lines) + "\n"
