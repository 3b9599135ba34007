"""The log's grammar: what the package prints is read back; damage never invents an event; resumes fold."""

from __future__ import annotations

import math
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.ids import Sha256
from harness.log import grammar, summary
from harness.log.errors import ErrorKind, ErrorLine
from harness.log.grammar import (
    DPO,
    SFT,
    CheckpointSaved,
    DataAnnounced,
    Event,
    FirstDpoLoss,
    GgufWritten,
    PassedOver,
    Plan,
    Resumed,
    StageComplete,
    Step,
    Trainer,
    TrainingComplete,
    TrainingFailed,
)
from harness.log.proof import ProofLine

counts = st.integers(0, 10**9)
trainers = st.sampled_from([SFT, DPO, Trainer("orpo_2")])
floats = st.floats(allow_nan=False, width=32)
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789_:.", min_size=1, max_size=20)
prose = st.text(st.characters(min_codepoint=32, max_codepoint=0x2000).filter(str.isprintable))

PROOF = ProofLine("V2 FOREX INTEGRATION: {sft} SFT + {dpo} DPO samples from YOUR data")
V2 = "V2 FOREX INTEGRATION: 15300 SFT + 2550 DPO samples from YOUR data"
PLAN = (
    "PLAN sft_steps=330 dpo_steps=80 batch_size=32 checkpoint_every=100 lora_r=64 lora_alpha=128"
    " dtype=bfloat16 world_size=1 device_map=auto devices=cuda:0,cuda:1"
)


def step(trainer: str, number: int, loss: float, total: int = 330) -> str:
    return f"[{trainer}] step {number}/{total} ({100 * number // total}%) loss={loss} lr=1e-05 s/step=4.4"


def steps(trainer: str, *numbers: int) -> list[str]:
    return [step(trainer, number, 2.0 - number / 1000) for number in numbers]


def event_of(line: str) -> Event | None:
    return next(iter(grammar.parse([line], PROOF)), None)


def read(*log: str) -> summary.LogSummary:
    return summary.read(("\n".join(log) + "\n").encode(), PROOF)


@given(n=counts, total=counts, trainer=trainers, loss=floats, pace=floats, word=words, reason=prose)
def test_each_line_of_the_contract_is_read_back(
    *, n: int, total: int, trainer: Trainer, loss: float, pace: float, word: str, reason: str
) -> None:
    path = f"models/output/{trainer}/checkpoint-{n % 10**9}"
    step_number = n % 10**9
    expected: dict[str, Event] = {
        f"V2 FOREX INTEGRATION: {n} SFT + {total} DPO samples from YOUR data": DataAnnounced({"sft": n, "dpo": total}),
        f"PLAN sft_steps={n} dpo_steps={total} batch_size=32 checkpoint_every=100 lora_r=64 lora_alpha=128 dtype={word}"
        f" world_size=1 device_map={word} devices=cuda:0,{word}": Plan(
            {SFT: n, DPO: total}, 32, 100, 64, 128, word, 1, word, ("cuda:0", word)
        ),
        f"[{trainer}] step {n}/{total} (7%) loss={loss!r} lr=1e-05 s/step={pace!r}": Step(
            trainer, n, total, loss, 1e-05, pace
        ),
        f"[{trainer}] Saved checkpoint {path}": CheckpointSaved(trainer, step_number, path),
        f"[{trainer}] RESUME from {path} at step {step_number}": Resumed(trainer, step_number, path),
        f"[{trainer}] PASSED OVER {path}: {reason}": PassedOver(trainer, step_number, path, reason),
        f"[{trainer}] COMPLETE {n}/{total} steps": StageComplete(trainer, n, total),
        f"[dpo] first loss={loss!r}": FirstDpoLoss(loss),
        f"[export] GGUF models/{word}.gguf bytes={n} sha256={'0' * 64}": GgufWritten(
            f"models/{word}.gguf", n, Sha256("0" * 64)
        ),
        "TRAINING COMPLETE": TrainingComplete(),
        f"TRAINING FAILED: {reason}": TrainingFailed(reason),
    }
    for line, event in expected.items():
        assert grammar.parse(grammar.lines((line + "\n").encode()), PROOF) == (event,)
        assert event_of(line + " ") != event or line.endswith(reason)
        assert event_of(f"log said: {line}") is None
        assert re.search(grammar.matters(PROOF), line)
        assert bool(re.search(grammar.PLENTY, line)) == isinstance(event, Step)


@pytest.mark.parametrize(
    ("text", "value"), [("nan", math.nan), ("inf", math.inf), ("-inf", -math.inf), ("1e-05", 1e-5)]
)
def test_a_loss_that_is_not_finite_is_read_as_such(text: str, value: float) -> None:
    event = event_of(f"[sft] step 1/2 (50.0%) loss={text} lr=0 s/step=0.1")
    assert isinstance(event, Step)
    assert event.loss == value or (math.isnan(event.loss) and math.isnan(value))


@pytest.mark.parametrize(
    "line",
    [
        "V2 FOREX INTEGRATION: 15300 SFT + 2550 DPO samples",
        " V2 FOREX INTEGRATION: 15300 SFT + 2550 DPO samples from YOUR data",
        "V2 FOREX INTEGRATION: -1 SFT + 2550 DPO samples from YOUR data",
        "v2 forex integration: 15300 SFT + 2550 DPO samples from YOUR data",
        "expected V2 FOREX INTEGRATION: 15300 SFT + 2550 DPO samples from YOUR data",
        "[sft] step 1/2 (50%) loss= lr=0 s/step=1",
        "[Rlhf] step 1/2 (50%) loss=1 lr=0 s/step=1",
        "[sft] Saved checkpoint /etc/checkpoint-1",
        "[sft] Saved checkpoint models/output/sft/../sft/checkpoint-1",
        "[sft] RESUME from models/output/sft/checkpoint-100 at step 101",
        "[export] GGUF a.gguf bytes=1 sha256=abc",
        "TRAINING COMPLETE!",
        "TRAINING COMPLETED",
        "[sft] step ١/٢ (50%) loss=1 lr=0 s/step=1",  # noqa: RUF001 - digits that are not ours
    ],
)
def test_what_is_not_word_for_word_is_no_event(line: str) -> None:
    assert event_of(line) is None


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Traceback (most recent call last):", ErrorKind.TRACEBACK),
        ("[rank0]: Traceback (most recent call last):", ErrorKind.TRACEBACK),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", ErrorKind.OUT_OF_MEMORY),
        ("OSError: [Errno 28] No space left on device", ErrorKind.NO_SPACE),
        ("node:42:77 [0] NCCL WARN Cuda failure", ErrorKind.NCCL),
        ("RuntimeError: NCCL error in: ProcessGroupNCCL.cpp", ErrorKind.NCCL),
        ("[Rank 0] Watchdog caught collective operation timeout: NCCL timed out", ErrorKind.NCCL),
        ("NVRM: Xid (PCI:0000:65:00): 79, GPU has fallen off the bus.", ErrorKind.XID),
        ("RuntimeError: CUDA error: device-side assert triggered", ErrorKind.CUDA),
        ("Killed", ErrorKind.KILLED),
        ("Segmentation fault (core dumped)", ErrorKind.KILLED),
    ],
)
def test_error_lines_are_seen_wherever_they_stand(line: str, kind: ErrorKind) -> None:
    assert event_of(line) == ErrorLine(kind, line)
    assert re.search(grammar.matters(PROOF), line)


@pytest.mark.parametrize("line", ["NCCL version 2.21.5+cuda12.4", "no space is left out", "the dog was Killed", "Xid"])
def test_harmless_lines_are_no_errors(line: str) -> None:
    assert event_of(line) is None


def test_a_torn_last_line_is_left_out_while_the_log_may_grow() -> None:
    log = (V2 + "\n" + "[dpo] first loss=0.69").encode()
    assert grammar.parse(grammar.lines(log), PROOF) == (DataAnnounced({"sft": 15300, "dpo": 2550}),)
    assert len(grammar.parse(grammar.lines(log, torn_end=False), PROOF)) == 2


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_without_an_error_and_printably(noise: bytes) -> None:
    for line in grammar.lines(noise, torn_end=False):
        assert not any(unicodedata.category(letter) == "Cc" for letter in line.replace("\t", ""))
        assert len(line) <= grammar.MAX_LINE + 1
    summary.read(noise, PROOF, torn_end=False)


@given(st.binary(max_size=300).filter(lambda noise: noise[-1:] not in (b"\x1b", b"[") and b"\x1b" not in noise))
def test_noise_between_lines_hides_no_line(noise: bytes) -> None:
    log = b"\r\n" + noise + b"\n" + V2.encode() + b"\r\n" + noise + b"\n"
    assert DataAnnounced({"sft": 15300, "dpo": 2550}) in grammar.parse(grammar.lines(log), PROOF)


def test_a_progress_bar_before_a_line_ends_with_its_carriage_return() -> None:
    log = f" 10%|█         | 1/10 [00:01<00:09]\r\x1b[2K\x1b[32m{V2}\x1b[0m\n".encode()
    assert grammar.parse(grammar.lines(log), PROOF) == (DataAnnounced({"sft": 15300, "dpo": 2550}),)


def test_a_huge_line_is_cut_and_costs_little() -> None:
    log = b"A" * 50_000_000 + b"\n" + V2.encode() + b"\n" + b"[sft] step " + b"9" * 5_000_000 + b"\n"
    assert grammar.parse(grammar.lines(log), PROOF) == (DataAnnounced({"sft": 15300, "dpo": 2550}),)


def test_a_whole_run_folds_into_its_end() -> None:
    seen = read(
        V2,
        PLAN,
        *steps("sft", 1, 100, 200),
        "[sft] Saved checkpoint models/output/sft/checkpoint-100",
        "[sft] Saved checkpoint models/output/sft/checkpoint-200",
        step("sft", 330, 1.5),
        "[sft] COMPLETE 330/330 steps",
        "[dpo] first loss=0.693147",
        step("dpo", 80, 0.5, 80),
        "[dpo] COMPLETE 80/80 steps",
        f"[export] GGUF models/output/final/m.Q8_0.gguf bytes=812 sha256={'a' * 64}",
        "TRAINING COMPLETE",
    )
    assert seen.complete
    assert seen.failed is None
    assert seen.attempts == 1
    assert seen.data == DataAnnounced({"sft": 15300, "dpo": 2550})
    assert seen.plan is not None
    assert seen.plan.devices == ("cuda:0", "cuda:1")
    sft = seen.of(SFT)
    assert [each.step for each in sft.steps] == [1, 100, 200, 330]
    assert sft.saved == (100, 200)
    assert sft.s_per_step == 4.4
    assert sft.complete == StageComplete(SFT, 330, 330)
    assert seen.first_dpo_loss == pytest.approx(math.log(2), abs=1e-6)
    assert [each.size for each in seen.ggufs] == [812]
    assert read().of(DPO).last is None


def test_a_resume_takes_back_the_steps_that_are_trained_again() -> None:
    seen = read(
        V2,
        PLAN,
        *steps("sft", 90, 100, 110, 120),
        "Killed",
        V2,
        PLAN,
        "[sft] PASSED OVER models/output/sft/checkpoint-200: optimizer.pt: missing",
        "[sft] RESUME from models/output/sft/checkpoint-100 at step 100",
        *steps("sft", 110),
    )
    sft = seen.of(SFT)
    assert seen.attempts == 2
    assert seen.errors == ()
    assert [line.kind for line in seen.earlier_errors] == [ErrorKind.KILLED]
    assert [each.step for each in sft.steps] == [90, 100, 110]
    (resume,) = sft.resumes
    assert resume.at == 100
    assert resume.before is not None
    assert resume.after is not None
    assert (resume.before.step, resume.after.step) == (100, 110)
    assert [passed.step for passed in sft.passed_over] == [200]


def test_a_failure_is_history_once_the_run_was_launched_again() -> None:
    failed = (V2, PLAN, *steps("sft", 10), "Traceback (most recent call last):", "TRAINING FAILED: disk is full")
    seen = read(*failed)
    assert seen.failed == "disk is full"
    assert not seen.complete
    again = read(*failed, V2, PLAN)
    assert again.failed is None
    assert again.attempts == 2
    assert again.errors == ()


def test_an_attempt_that_died_before_its_first_line_is_history_too() -> None:
    seen = read("Traceback (most recent call last):", "ImportError: no module", V2, PLAN)
    assert seen.errors == ()
    assert len(seen.earlier_errors) == 1
    assert seen.attempts == 2


def test_complete_is_taken_back_by_a_new_attempt() -> None:
    assert not read(V2, PLAN, "TRAINING COMPLETE", V2).complete
    assert (
        read(V2, PLAN, "[sft] COMPLETE 5/5 steps", "[sft] RESUME from models/output/sft/checkpoint-4 at step 4")
        .of(SFT)
        .complete
        is None
    )


@given(
    st.lists(st.sampled_from([V2, PLAN, *steps("sft", 1, 2, 3), "Killed", "TRAINING COMPLETE", "noise"]), max_size=30)
)
def test_a_prefix_of_a_log_is_a_summary_too(log: list[str]) -> None:
    seen = read(*log)
    numbers = [each.step for each in seen.of(SFT).steps]
    assert numbers == sorted(set(numbers))
    assert seen.attempts >= (1 if V2 in log or PLAN in log else 0)
