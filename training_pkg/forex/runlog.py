"""The lines of training.log that the outside world reads. Every one is printed here, flushed, on one line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path


def say(line: str) -> None:
    """Print one line now."""
    print(" ".join(line.splitlines()), flush=True)


def integration(sft: int, dpo: int) -> None:
    """How many rows were read."""
    say(f"V2 FOREX INTEGRATION: {sft} SFT + {dpo} DPO samples from YOUR data")


def plan(values: Mapping[str, object], devices: Sequence[str]) -> None:
    """What is going to happen: step totals, batch size, adapter, devices."""
    pairs = " ".join(f"{name}={value}" for name, value in values.items())
    say(f"PLAN {pairs} devices={','.join(devices)}")


def ready(what: str, detail: str) -> None:
    """Something that the run will need works here."""
    say(f"READY {what} {detail}")


def step(stage: str, number: int, total: int, *, loss: float, rate: float, seconds: float) -> None:
    """One optimizer step; a loss that is not finite is written as such."""
    percent = 100 * number // total
    say(f"[{stage}] step {number}/{total} ({percent}%) loss={loss:.6g} lr={rate:.6g} s/step={seconds:.3f}")


def first_loss(loss: float) -> None:
    """The first DPO loss: ln 2 when the policy starts as its own reference."""
    say(f"[dpo] first loss={loss:.6f}")


def saved(stage: str, checkpoint: Path) -> None:
    """A checkpoint is whole on the disk."""
    say(f"[{stage}] Saved checkpoint {checkpoint.as_posix()}")


def resume(stage: str, checkpoint: Path, number: int) -> None:
    """The run goes on from a checkpoint."""
    say(f"[{stage}] RESUME from {checkpoint.as_posix()} at step {number}")


def passed_over(stage: str, checkpoint: Path, reason: str) -> None:
    """A checkpoint that is not whole is not used."""
    say(f"[{stage}] PASSED OVER {checkpoint.as_posix()}: {reason}")


def stage_complete(stage: str, number: int, total: int) -> None:
    """A training stage made its last step."""
    say(f"[{stage}] COMPLETE {number}/{total} steps")


def gguf(path: Path, size: int, digest: str) -> None:
    """A verified GGUF took its final name."""
    say(f"[export] GGUF {path.as_posix()} bytes={size} sha256={digest}")


def cut(stage: str, rows: int, of: int) -> None:
    """How many rows' answers exceed the model's length and lose their end."""
    if rows:
        say(f"[{stage}] {rows} of {of} rows are cut at max_length and lose the end of their answer")


def note(stage: str, text: str) -> None:
    """Anything else worth a line; the outside world ignores it."""
    say(f"[{stage}] {text}")


def figures(stage: str, values: Mapping[str, object]) -> None:
    """Numbers as JSON on one line."""
    say(f"[{stage}] {json.dumps(values, ensure_ascii=False)}")


def complete() -> None:
    """The last line of a good run."""
    say("TRAINING COMPLETE")


def failed(reason: str) -> None:
    """The last line of a failed run."""
    say(f"TRAINING FAILED: {reason}")
