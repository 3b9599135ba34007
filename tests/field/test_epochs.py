"""Rows that an unmodified trainer learned from, by the epochs and samples that it records: all, fewer, or unclear."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.core.observed import CouldNotLook
from harness.facts import epochs
from harness.job.model import Job
from harness.log import folding
from harness.log.grammar import SFT
from harness.log.launches import LaunchLine
from harness.log.trainerstate import TrainerState
from tests.field.case import field_case
from tests.support.facts import sound_job


def job(rows: int, steps: int, *, batch: int = 0, least: float = 1.0) -> Job:
    file = {"file": "rows.jsonl", "rows": rows, "trainer": "sft"}
    training = {"log": "trainer", "steps": {"sft": steps}, "batch_size": batch, "accumulation": {}}
    data = {"proof_line": None, "files": {"rows": file}}
    return sound_job(training=training, data=data, limits={"min_epochs": least})


def hub(steps: int, epoch: float, a_step: float, *, text: bool = False, every: int = 10) -> list[str]:
    """Records of transformers: numbers (version 4) or their text in four digits (version 5), and the summary."""
    shown = (lambda number: f"{number:.4g}") if text else (lambda number: round(number, 2))
    lines = [str(LaunchLine("forex-r1-v3", "7001", 1))]
    for step in range(every, steps + 1, every):
        lines.append(str({"loss": shown(2 - step / steps), "epoch": shown(epoch * step / steps)}))
        lines.append(f" 10%|█  | {step}/{steps} [00:10<00:10,  4.40s/it]")
    seconds = 4.4 * steps
    rates = {"train_samples_per_second": steps * a_step / seconds, "train_steps_per_second": steps / seconds}
    end = {"train_runtime": seconds, **rates, "train_loss": 1.0, "epoch": epoch}
    return [*lines, str({name: shown(number) for name, number in end.items()})]


FACTORY = [
    f'{{"current_steps": {at}, "total_steps": 60, "loss": 1.{at}, "epoch": {at / 20}}}' for at in range(5, 61, 5)
]
TUNE = [f"Step {at} | loss:1.{at} lr:2e-5" for at in range(1, 61)]
ALL, FEWER, UNCLEAR = None, "times through its rows", "an epoch of it is about"


@pytest.mark.parametrize(
    ("lines", "has", "said"),
    [
        field_case("whole epochs", "own: three of them", hub(360, 3.0, 128), job(15_300, 360), ALL),
        field_case("in version 5's text", "own: the same", hub(360, 3.0, 128, text=True), job(15_300, 360), ALL),
        field_case("capped", "own: max_steps under an epoch", hub(330, 0.69, 32), job(15_300, 330), FEWER),
        field_case("capped, as meant", "own: the job says so", hub(330, 0.69, 32), job(15_300, 330, least=0.6), ALL),
        field_case(
            "an incomplete last step",
            "huggingface/transformers#33455: with accumulation the last rows of an epoch are no step any more",
            hub(119, 0.9953, 128),
            job(15_300, 119),
            ALL,
        ),
        field_case(
            "packed",
            "huggingface/alignment-handbook#220: Num examples = 698 of 7473 rows, 66 steps of 32",
            hub(66, 3.0, 32, every=6),
            job(7473, 66),
            UNCLEAR,
        ),
        field_case(
            "cut and thrown away",
            "hiyouga/LlamaFactory#4055: 30,000 rows, Num examples = 1,596, 75 steps of 64",
            hub(75, 3.0, 64, every=5),
            job(30_000, 75),
            UNCLEAR,
        ),
        field_case(
            "a tenth split off",
            "hiyouga/LlamaFactory#3718: val_size 0.1",
            hub(324, 3.0, 127.5, every=9),
            job(15_300, 324),
            UNCLEAR,
        ),
        field_case(
            "a tenth split off, as meant",
            "hiyouga/LlamaFactory#3718: val_size 0.1",
            hub(324, 3.0, 127.5, every=9),
            job(15_300, 324, least=0.9),
            ALL,
        ),
        field_case(
            "a stream",
            "huggingface/transformers#41913: of an iterable dataset an epoch is max_steps, whatever it holds",
            hub(330, 1.0, 32),
            job(15_300, 330),
            UNCLEAR,
        ),
        field_case(
            "a stream that was long enough", "huggingface/transformers#41913", hub(480, 1.0, 32), job(15_300, 480), ALL
        ),
        field_case(
            "max_samples, and no summary in the log",
            "hiyouga/LlamaFactory#7017: at most 1,000 rows by the example's max_samples; the job says its batch",
            FACTORY,
            job(15_300, 60, batch=50),
            UNCLEAR,
        ),
        field_case("no summary", "own: trainer_log.jsonl tells epochs alone", FACTORY, job(15_300, 60), ALL),
        field_case("no epoch", "own: torchtune tells none", TUNE, job(3_000, 60), "tells an epoch of sft"),
        field_case("no epoch, the batch told", "own: 60 steps of 50", TUNE, job(3_000, 60, batch=50), ALL),
        field_case("no epoch, too small a batch", "own: 60 x 32", TUNE, job(3_000, 60, batch=32), "see 1920 of 3000"),
        field_case("answers, not prompts", "own: GRPO counts eight a row", hub(100, 1.0, 64), job(800, 100), ALL),
    ],
)
def test_what_an_unmodified_trainer_saw_of_its_rows(lines: list[str], has: Job, said: str | None) -> None:
    trainer = folding.fold(lines, has.training.steps, None).of(SFT)
    unclear = said in {UNCLEAR, "tells an epoch of sft"}
    if unclear:
        with pytest.raises(CouldNotLook, match=said):
            epochs.recorded(has, SFT, trainer, None)
        return
    problem = epochs.recorded(has, SFT, trainer, None)
    assert (problem is None) is (said is None), problem
    assert said is None or said in str(problem)


def test_its_checkpoint_tells_epochs_unrounded() -> None:
    has, state = job(1_000_000, 31_248), TrainerState(31_248, 31_248, {}, epochs=0.99)
    told = folding.fold(hub(31_240, 1.0, 32, every=1000), has.training.steps, None).of(SFT)
    assert epochs.recorded(has, SFT, told, None) is None
    assert "went 0.99 times" in str(epochs.recorded(has, SFT, told, state))
    assert epochs.recorded(has, SFT, told, replace(state, epochs=None)) is None


@pytest.mark.parametrize(
    ("shown", "most"),
    [
        field_case("two digits", "own: transformers 4 rounds", [(10, 0.02), (20, 0.04)], 0.7425),
        field_case("a first record of 0", "own: it rounds to nothing", [(2, 0.0)], 0.825),
        field_case("several epochs", "own: long enough", [(10, 0.08), (30, 0.25)], 2.805),
    ],
)
def test_at_its_launch_the_most_that_its_records_can_come_to_counts(shown: Any, most: float) -> None:
    lines = [str(LaunchLine("forex-r1-v3", "7001", 1))]
    for step, epoch in shown:
        lines += [str({"loss": 2.0, "epoch": epoch}), f" 1%|  | {step}/330 [00:10<00:10,  4.40s/it]"]
    said = folding.fold(lines, {SFT: 330}, None).of(SFT)
    assert epochs.coming(said) == pytest.approx(most)
