"""The training log of any size is read: what matters of it in full, within what one answer may take."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.context import JobContext
from harness.core.observed import Observed
from harness.core.ports import RunResult
from harness.facts import traininglog
from harness.log import summary
from harness.log.grammar import SFT
from harness.remote.box import excerpt
from harness.remote.probe import probe
from tests.support.facts import PLAN, PROOF, V2, sound_job, step_lines, whole_log

answer: Any = pytest.importorskip("harness.remote.box.answer", reason="the box is Linux")

MIB = 1 << 20
ASCII = "a chatty library prints a line of about a hundred characters, again and again and again and again"
OTHER = "▇▇▇▇▇▇▇▇▇▇▇▇▇▇ 50% 📈 ein Balken, der größer ist als seine Zeichen ▇▇▇▇▇▇▇▇▇▇▇▇▇▇"


@dataclass(frozen=True, slots=True)
class Look:
    """What the log's questions came back with."""

    log: Observed[summary.LogSummary]
    age_s: Observed[float]
    last_lines: Observed[tuple[str, ...]]


def look(box: Path, **tables: Any) -> Look:
    """The log's questions, answered as on the box and read as from it, beside answers of other questions."""
    job = sound_job(package={"remote_dir": str(box)}, **tables)
    log = traininglog.questions(cast("JobContext", SimpleNamespace(job=job)))
    request = {"timeout": 60, "limit": probe.ANSWER_LIMIT // 2, "questions": probe.on_the_wire(log)}
    out = json.dumps(answer.answers(request)).encode()
    assert len(out) < 3 * MIB
    answers = probe.parse(RunResult(0, b"m:" + out, b""), "m:", log)
    return Look(log.summary_of(answers, job), log.age_s(answers), log.last_lines(answers))


def chatty(path: Path, size: int, noise: str, events: list[str]) -> None:
    """A log of a size, its events spread over it evenly."""

    def lines() -> Iterator[str]:
        for event in events:
            yield event
            yield from [noise] * (size // len(events) // (len(noise.encode()) + 1))

    path.write_text("\n".join(lines()) + "\n", encoding="utf-8")


@pytest.mark.parametrize("noise", [ASCII, OTHER])
@pytest.mark.parametrize("mib", [0, 1, 5, pytest.param(50, marks=pytest.mark.slow)])
def test_a_log_of_any_size_is_read_in_full(tmp_path: Path, mib: int, noise: str) -> None:
    log = tmp_path / "training.log"
    chatty(log, mib * MIB, noise, whole_log())
    os.utime(log, (log.stat().st_mtime - 3600,) * 2)
    seen = look(tmp_path)
    found = seen.log.get()
    assert found == summary.read(("\n".join(whole_log()) + "\n").encode(), PROOF)
    assert seen.age_s.get() >= 3600
    assert len(seen.last_lines.get()) == 20


def test_more_steps_than_fit_leave_steps_out_and_nothing_else(tmp_path: Path) -> None:
    many = [
        V2,
        PLAN,
        *step_lines("sft", 1, 20000),
        "[sft] RESUME from models/output/sft/checkpoint-19900 at step 19900",
        *step_lines("sft", 19901, 60000),
        "Traceback (most recent call last):",
    ]
    (tmp_path / "training.log").write_text("\n".join(many) + "\n")
    seen = look(tmp_path).log.get()
    whole = summary.read(("\n".join(many) + "\n").encode(), PROOF)
    sft = seen.of(SFT)
    assert 10000 < len(sft.steps) < 60000
    assert (sft.steps[0].step, sft.steps[-1].step) == (1, 60000)
    assert sft.saved == whole.of(SFT).saved
    assert [resume.at for resume in sft.resumes] == [19900]
    assert (seen.data, seen.plan, seen.errors) == (whole.data, whole.plan, whole.errors)


def test_a_flood_of_lines_that_matter_is_bounded(tmp_path: Path) -> None:
    flood = [V2, PLAN, *[f"CUDA error: {OTHER}"] * 40000, "TRAINING FAILED: CUDA error"]
    (tmp_path / "training.log").write_text("\n".join(flood) + "\n")
    seen = look(tmp_path).log.get()
    assert seen.data is not None
    assert seen.failed == "CUDA error"
    assert len(seen.errors) > 1000


def test_of_a_larger_log_than_is_scanned_both_ends_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excerpt, "SCANNED", 20000)
    chatty(tmp_path / "training.log", 60000, ASCII, whole_log())
    seen = look(tmp_path).log.get()
    assert seen.data is not None
    assert seen.complete


def test_escapes_progress_bars_and_torn_ends_are_read_as_the_grammar_reads_them(tmp_path: Path) -> None:
    data = (
        f"{V2}\r\n{PLAN}\n\n 10%|█▌   |\r\x1b[32m[sft] step 1/330 (0%) loss=0.5 lr=0.1 s/step=4\x1b[0m\n"
        + "x" * 100000
        + "\n[dpo] first loss=0.69\nplain\n[sft] step 2/330 (0%) loss=0.1"
    ).encode()
    (tmp_path / "training.log").write_bytes(data)
    assert look(tmp_path).log.get() == summary.read(data, PROOF)


def test_a_log_that_is_not_there_was_not_seen(tmp_path: Path) -> None:
    seen = look(tmp_path)
    assert seen.log.problem == "there is no training.log on the box"
    assert seen.age_s.problem == "there is no training.log on the box"


def test_an_unmodified_trainers_records_pass_and_of_its_bar_both_ends(tmp_path: Path) -> None:
    """A bar is redrawn at every step: told in full it would crowd out what it stands between."""
    bar = " 12%|{}| {}/4000 [00:01<00:01,  2.00s/it]"
    lines = ["HARNESS LAUNCH 1 of mine on instance 7001", "Loading: 100%|███| 4/4 [00:10<00:00,  2.61s/it]", "chatter"]
    for step in range(1, 4001):
        lines.append(bar.format("█" * 40, step))
        if step % 10 == 0:
            record = {"loss": 2.5, "grad_norm": 1.0, "learning_rate": 1e-4, "epoch": step / 4000}
            lines += [str(record), bar.format("█" * 40, step)]
    lines += ["{'train_runtime': 61.2, 'epoch': 1.0}", bar.format("█" * 40, 4000) + "Killed", "Killed"]
    (tmp_path / "training.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    steps = {"log": "trainer", "steps": {"sft": 4000}}
    seen = look(tmp_path, training=steps, data={"proof_line": None, "files": {}}).log.get()
    said = seen.of(SFT)
    assert [step.step for step in said.steps] == list(range(10, 4001, 10))
    assert {step.total for step in said.steps} == {4000}
    assert said.complete is not None
    assert [one.job for one in seen.launches] == ["mine"]
    assert [error.text for error in seen.errors][-1] == "Killed"
    found = excerpt.excerpt(str(tmp_path / "training.log"), **_asked(steps))
    assert found["left_out"] == 0
    assert len(found["lines"]) < 1250
    assert not any("█" in line for line in found["lines"] if not line.endswith("Killed"))


def _asked(training: dict[str, Any]) -> dict[str, Any]:
    job = sound_job(training=training, data={"proof_line": None, "files": {}})
    asked = traininglog.questions(cast("JobContext", SimpleNamespace(job=job))).excerpt
    return {name: getattr(asked, name) for name in ("pattern", "plenty", "limit", "fleeting")}
