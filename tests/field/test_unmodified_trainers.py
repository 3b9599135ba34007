"""Logs as unmodified trainers leave them, folded into the summary that a job is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pytest

from harness.log import folding
from harness.log.errors import ErrorKind
from harness.log.grammar import DPO, SFT, DataAnnounced, Trainer
from harness.log.launches import LaunchLine
from harness.log.proof import ProofLine
from harness.log.summary import LogSummary, RestsOn
from tests.field.case import field_case

ONE = {SFT: 60}
NO_MORE: Mapping[str, float] = MappingProxyType({})
BOTH = {SFT: 60, DPO: 20}


def fold(log: str, planned: dict[Trainer, int]) -> LogSummary:
    return folding.read(log.encode(), planned, None)


def tqdm(step: int, total: int, pace: str = "2.00s/it") -> str:
    """A bar as tqdm redraws it: it ends with a carriage return when the next one comes."""
    drawn = "█" * (10 * step // total)
    return f"\r{100 * step // total:3d}%|{drawn:<10}| {step}/{total} [00:{step:02d}<01:00,  {pace}]"


def record(step: int, total: int, *, v5: bool = False, more: Mapping[str, float] = NO_MORE) -> str:
    told: dict[str, object] = {"loss": round(2.5 - step / 100, 4), "grad_norm": 1.25, "learning_rate": 1e-4}
    told |= {**more} | {"epoch": round(step / total, 2)}
    return str({name: str(one) for name, one in told.items()} if v5 else told)


def sft(
    first: int, last: int, total: int, every: int = 10, *, v5: bool = False, more: Mapping[str, float] = NO_MORE
) -> str:
    """A training as transformers logs it: every step redraws the bar, every tenth record is followed by a bar."""
    log = tqdm(first - 1, total)
    for step in range(first, last + 1):
        log += tqdm(step, total)
        if step % every == 0:
            log += f"\r{' ' * 60}\r{record(step, total, v5=v5, more=more)}\n{tqdm(step, total)}"
    return log


def end(total: int, *, v5: bool = False) -> str:
    told: dict[str, object] = {"train_runtime": 61.2, "train_loss": 1.2, "epoch": 1.0}
    told = {name: str(one) for name, one in told.items()} if v5 else told
    return f"\r{' ' * 60}\r{told}\n{tqdm(total, total)}\n"


def mark(number: int) -> str:
    return f"{LaunchLine('mine', '7001', number)}\n"


LOADING = (
    "Loading checkpoint shards: 100%|██████████| 4/4 [00:10<00:00,  2.61s/it]\n"
    "Map: 100%|██████████| 200/200 [00:00<00:00, 2211.17 examples/s]\n"
)
UNSLOTH = (
    "==((====))==  Unsloth - 2x faster free finetuning | Num GPUs used = 1\n"
    "   \\\\   /|    Num examples = 9,999 | Num Epochs = 2 | Total steps = 60\n"
    "O^O/ \\_/ \\    Batch size per device = 4 | Gradient accumulation steps = 1\n"
)
FACTORY = (
    "[INFO|trainer.py:2414] 2025-03-01 10:00:00,118 >> ***** Running training *****\n"
    "[INFO|trainer.py:2415] 2025-03-01 10:00:00,118 >>   Num examples = 900\n"
    "[INFO|trainer.py:2421] 2025-03-01 10:00:00,119 >>   Total optimization steps = 60\n"
)


def torchtune(last: int) -> str:
    """Its loss stands in front of the bar, and each step draws it twice."""
    log, before = "", ""
    for step in range(1, last + 1):
        told = f"1|{step}|Loss: {2.5 - step / 100}: "
        bar = f"{100 * step // 101:3d}%|██▌       | {step}/101 [06:45<17:27, 13.96s/it]"
        log += f"\r{before}{bar}\r{told}{bar}" if before else f"\r{told}{bar}"
        before = told
    return log + "\n"


def numbers(said: Sequence[int], every: int, last: int) -> bool:
    return list(said) == list(range(every, last + 1, every))


WHOLE = [
    field_case("v4", "own: plain TRL, its bar redrawn", LOADING + sft(1, 60, 60) + end(60), 10),
    field_case("v5", "own: the same in transformers 5", LOADING + sft(1, 60, 60, v5=True) + end(60, v5=True), 10),
    field_case("unsloth", "unslothai/unsloth#1899", UNSLOTH + sft(1, 60, 60, 1) + end(60), 1),
    field_case(
        "unsloth-runtime",
        "unslothai/unsloth#4547",
        UNSLOTH
        + sft(1, 60, 60, 1, v5=True, more={"train_runtime": 110.7, "num_input_tokens_seen": 286019})
        + end(60, v5=True),
        1,
    ),
    field_case("llama-factory", "hiyouga/LlamaFactory#618", FACTORY + sft(1, 60, 60) + end(60), 10),
    field_case(
        "axolotl",
        "axolotl-ai-cloud/axolotl#592",
        "\n\n".join(
            "  0%|   | 0/60 [00:00<?, ?it/s]" if not at else f" 32%|█▊  | {at}/60 [25:36<52:46,  5.35s/it]\n" + told
            for at in range(61)
            for told in [record(at, 60) + "\n" if at and at % 10 == 0 else ""]
        )
        + end(60),
        10,
    ),
    field_case(
        "evaluated",
        "axolotl-ai-cloud/axolotl#3148",
        sft(1, 30, 60)
        + "".join(tqdm(step, 13) for step in range(14))
        + f"\r{' ' * 60}\r{{'eval_loss': 1.36, 'eval_runtime': 16.3, 'epoch': 0.5}}\n"
        + sft(31, 60, 60)
        + end(60),
        10,
    ),
]


@pytest.mark.parametrize(("log", "every"), WHOLE)
def test_a_whole_log_tells_every_step_its_total_and_its_end(log: str, every: int) -> None:
    seen = fold(log, ONE)
    said = seen.of(SFT)
    assert seen.rests_on is RestsOn.TRAINER
    assert seen.attempts == 1
    assert numbers([step.step for step in said.steps], every, 60)
    assert {step.total for step in said.steps} == {60}
    assert said.records is not None
    assert said.records.numbered
    assert said.records.total == 60
    assert said.complete is not None
    assert (said.complete.step, said.complete.total) == (60, 60)
    assert seen.complete
    assert not seen.errors
    assert said.s_per_step in {2.0, 5.35}


BROKEN_OFF = [
    field_case("between", "own: the newest bar may still be drawn", sft(1, 25, 60), [10, 20], 24),
    field_case(
        "lagging",
        "own: a bar is not redrawn within a tenth of a second",
        sft(1, 20, 60).removesuffix(tqdm(20, 60)) + "\r\n",
        [10, 20],
        20,
    ),
    field_case(
        "nothing", "own: no step is logged before the first record", LOADING + tqdm(0, 60) + tqdm(3, 60) + "\r", [], 0
    ),
    field_case(
        "old-unsloth",
        "unslothai/unsloth#1145",
        UNSLOTH + "  4%|▎   | 11/60 [02:27<1:00:48, 12.12s/it]10, 2.2398\n",
        [],
        0,
    ),
]


@pytest.mark.parametrize(("log", "steps", "reached"), BROKEN_OFF)
def test_a_log_that_goes_on(log: str, steps: list[int], reached: int) -> None:
    seen = fold(log, ONE)
    said = seen.of(SFT)
    assert [step.step for step in said.steps] == steps
    assert said.complete is None
    assert not seen.complete
    assert (said.records.reached if said.records else 0) == reached


def test_early_stopping_is_no_whole_training() -> None:
    said = fold(sft(1, 40, 60) + end(60).replace("60/60", "40/60").replace("100%", " 66%"), ONE).of(SFT)
    assert said.complete is not None
    assert (said.complete.step, said.complete.total) == (40, 60)


def test_another_total_than_planned_is_told() -> None:
    said = fold(sft(1, 20, 3000), ONE).of(SFT)
    assert said.records is not None
    assert said.records.total == 3000


def test_torchtune_tells_its_steps_in_front_of_its_bar() -> None:
    """Its bar counts an epoch's steps, so that no total is told; each loss is counted once."""
    seen = fold(torchtune(60), ONE)
    said = seen.of(SFT)
    assert [step.step for step in said.steps] == list(range(1, 61))
    assert said.records is not None
    assert said.records.total is None
    assert said.complete is not None  # as many steps as the job plans


CRASH = "Traceback (most recent call last):\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n"
MORE = {"rewards/margins": 0.25}
AGAIN = [
    field_case(
        "anew",
        "own: an unmodified script begins at 0",
        mark(1) + sft(1, 35, 60) + CRASH + mark(2) + sft(1, 60, 60) + end(60),
        False,
    ),
    field_case(
        "resumed",
        "own: resume_from_checkpoint=True",
        mark(1) + sft(1, 35, 60) + CRASH + mark(2) + sft(31, 60, 60) + end(60),
        True,
    ),
    field_case(
        "unmarked", "own: a log that a person began", sft(1, 35, 60) + "\n" + CRASH + sft(1, 60, 60) + end(60), False
    ),
    field_case(
        "at-the-first",
        "own: it dies at once, and both say the same",
        mark(1) + sft(1, 11, 60) + CRASH + mark(2) + sft(1, 60, 60) + end(60),
        False,
    ),
]


@pytest.mark.parametrize(("log", "resumed"), AGAIN)
def test_a_relaunch_in_the_same_log(log: str, resumed: bool) -> None:
    seen = fold(log, ONE)
    said = seen.of(SFT)
    assert seen.attempts == 2
    assert numbers([step.step for step in said.steps], 10, 60)
    assert [one.at for one in said.resumes] == ([39] if resumed else [])
    assert not seen.errors
    assert len(seen.earlier_errors) == 2
    assert seen.complete


def test_an_error_of_the_newest_launch_is_the_present_one() -> None:
    """Also when it dies before its first step, while the model loads."""
    seen = fold(mark(1) + sft(1, 35, 60) + "\n" + mark(2) + LOADING + CRASH, ONE)
    assert [error.kind for error in seen.errors] == ["traceback", "out_of_memory"]
    assert seen.attempts == 1  # the second has not logged a step
    assert [one.number for one in seen.launches] == [1, 2]


ORDERS = [
    field_case("kinds", "own: SFT, then DPO", sft(1, 60, 60) + end(60) + sft(1, 20, 20, more=MORE) + end(20), BOTH),
    field_case(
        "totals",
        "own: two of one kind, told apart by their steps",
        sft(1, 60, 60) + end(60) + sft(1, 20, 20) + end(20),
        {"warm": 60, "main": 20},
    ),
    field_case(
        "order",
        "own: alike, told apart by their order",
        sft(1, 20, 20) + end(20) + sft(1, 20, 20) + end(20),
        {"warm": 20, "main": 20},
    ),
    field_case(
        "second-launch",
        "own: the first trainer is done, and skipped",
        mark(1)
        + sft(1, 60, 60)
        + end(60)
        + sft(1, 12, 20, more=MORE)
        + CRASH
        + mark(2)
        + sft(1, 20, 20, more=MORE)
        + end(20),
        BOTH,
    ),
    field_case(
        "all-again",
        "own: the whole script once more",
        mark(1)
        + sft(1, 20, 20)
        + end(20)
        + sft(1, 12, 20)
        + "\n"
        + CRASH
        + mark(2)
        + sft(1, 20, 20)
        + end(20)
        + sft(1, 20, 20)
        + end(20),
        {"warm": 20, "main": 20},
    ),
    field_case(
        "all-again-unmarked",
        "own: the whole script once more",
        sft(1, 60, 60)
        + end(60)
        + sft(1, 12, 20, more=MORE)
        + "\n"
        + CRASH
        + sft(1, 60, 60)
        + end(60)
        + sft(1, 20, 20, more=MORE)
        + end(20),
        BOTH,
    ),
    field_case("one-name", "own: a trainer of any name", sft(1, 60, 60, more=MORE) + end(60), {"orpo": 60}),
]


@pytest.mark.parametrize(("log", "planned"), ORDERS)
def test_several_trainings_get_the_names_of_the_job(log: str, planned: dict[Trainer, int]) -> None:
    seen = fold(log, planned)
    assert seen.complete
    assert list(seen.trainers) == list(planned)
    for trainer, total in planned.items():
        assert [step.step for step in seen.of(trainer).steps] == list(range(10, total + 1, 10)), trainer
        assert {step.trainer for step in seen.of(trainer).steps} == {trainer}


def test_where_no_step_is_told_records_are_counted_and_no_steps_are_claimed() -> None:
    """Bars may be off (disable_tqdm); an attempt that resumed goes on behind the records that it did not repeat."""
    plain = [record(step, 60) for step in range(10, 61, 10)]
    log = "\n".join([*plain[:4], CRASH.strip(), *plain[2:], "{'train_runtime': 61.2, 'epoch': 1.0}"]) + "\n"
    said = fold(log, ONE).of(SFT)
    assert [step.step for step in said.steps] == [1, 2, 3, 4, 5, 6]
    assert said.records is not None
    assert not said.records.numbered
    assert said.records.total is None


def test_json_lines_tell_step_and_total_themselves() -> None:
    """As LLaMA-Factory writes them into trainer_log.jsonl, and ms-swift into logging.jsonl."""
    lines = [
        f'{{"current_steps": {at}, "total_steps": 60, "loss": {2.5 - at / 100}, "lr": 1e-05}}' for at in range(5, 61, 5)
    ]
    said = fold("\n".join([*lines, '{"current_steps": 60, "total_steps": 60, "loss": null}']) + "\n", ONE).of(SFT)
    assert [step.step for step in said.steps] == list(range(5, 61, 5))
    assert said.complete is not None
    assert (said.complete.step, said.complete.total) == (60, 60)


def test_the_first_of_two_trainings_alike_is_the_first_that_is_planned() -> None:
    twice = sft(1, 20, 20) + end(20) + sft(1, 20, 20) + end(20)
    assert fold(twice, {Trainer("warm"): 20, Trainer("main"): 20}).attempts == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [("", None), ("ROWS 60 READY", {"sft": 60}), ("ROWS 60 ready", None)],
    ids=["never", "once", "in other words"],
)
def test_rows_are_announced_by_the_proof_line_alone(line: str, told: dict[str, int] | None) -> None:
    """A log without the line has announced no rows, whatever else it holds."""
    summary = folding.read(f"{line}\n{sft(1, 60, 60)}\n".encode(), ONE, ProofLine("ROWS {sft} READY"))
    assert summary.data == (DataAnnounced(told) if told else None)


def test_an_error_in_a_logs_first_line_is_one_of_its_last_attempt() -> None:
    whole = sft(1, 60, 60)
    summary = fold(f"RuntimeError: CUDA out of memory\n{whole}", ONE)
    assert [error.kind for error in summary.errors] == [ErrorKind.OUT_OF_MEMORY]
    assert fold(whole, ONE).errors == summary.earlier_errors == ()
