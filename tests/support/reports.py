"""Reports of jobs as they end: one closed, one held, one of a box that writes what it likes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import cycle

from harness.artifacts.evaluation import Accuracy, Decisions
from harness.core.answers import Gpu, Gpus
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.gates.evidence import Sight
from harness.ledger.events import Held
from harness.log.grammar import DPO, SFT, Step, Trainer
from harness.log.summary import LogSummary, TrainerLog
from harness.report import Report, build, series
from harness.report.model import BilledKind, EvaluationReport, RuleCheck, RuleReport, TrainingReport
from tests.support.job_histories import BEGAN, Log, check

HOSTILE = (
    "<script>document.title='owned'</script>",
    "</style><script>document.title='owned'</script>",
    "</title></svg></details></code><img src=x onerror=\"document.title='owned'\">",
    "' onmouseover='document.title=1' x='",
    '" autofocus onfocus="document.title=1" x="',
    "javascript:document.title='owned'",
    "<svg onload=document.title='owned'><style>@import url(http://127.0.0.1:9/)</style>",
    "<link rel=stylesheet href=http://127.0.0.1:9/x.css><meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "{{ 7 * 7 }} {% raw %} {# x #}",
    "<!-- ]]> <![CDATA[ &lt;b&gt; &#60;b&#62; &#0;",
    "\u202e\u2066gnp.exe\u2069 \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\x00\x00\x00 NUL \x00",
    "\x1b]0;owned\x07\x1b[31mred\ud800",
    "x" * 10_000,
    "word " * 2_000,
    "\n" * 500 + "<p>" * 500,
)
"""Words that a box may put into any of its fields."""


def steps(trainer: Trainer, count: int, first: float, last: float) -> tuple[Step, ...]:
    """A course of a loss that falls from one value to another, in a learning rate that rises and falls."""
    return tuple(
        Step(
            trainer,
            number,
            count,
            loss=last + (first - last) * math.exp(-5 * number / count) + 0.02 * math.sin(number * 1.7),
            lr=1e-4 * min(1.0, number / (0.1 * count)) * (1 + math.cos(math.pi * number / count)) / 2,
            s_per_step=4.4 + 0.2 * math.sin(number * 0.9),
        )
        for number in range(1, count + 1)
    )


def training(sft: int = 330, dpo: int = 80, name: str = "evidence/training-1.json") -> TrainingReport:
    """A training's record: so many steps, GPUs looked at every two minutes."""
    log = LogSummary(
        trainers={
            SFT: TrainerLog(steps(SFT, sft, 2.4, 0.6)),
            DPO: TrainerLog(steps(DPO, dpo, math.log(2), 0.31)),
        }
    )
    looks = [
        (BEGAN + 600 + 120 * number, Gpus(True, tuple(_gpu(index, number) for index in range(8))))
        for number in range(20)
    ]
    return TrainingReport(
        (*series.of_log((SFT, DPO), log, ""), *series.of_gpus(looks, "")),
        name,
        {"sft.learning_rate": "0.0001", "lora.r": "64", "model.name": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"},
        {"torch": "2.7.1", "transformers": "5.24.0", "peft": "0.21.2"},
        "4f2a9c1d",
    )


def closed(course: TrainingReport | None = None) -> Report:
    """A job that ended well, evaluated and billed."""
    log = Log().closed()
    report = build(
        log.history,
        now=log.at,
        charges=None,
        evaluation=_evaluation("direction", ()),
        rules=(_rule("rule 1"), _rule("rule 2", "not reproducible here")),
        training=course or training(),
    )
    billed = (BilledKind("gpu", 13.02), BilledKind("disk", 0.11))
    rates = dataclasses.replace(report.money, billed=billed, bytes_per_s=84e6, bytes_s=96.0, line_bytes_per_s=850e6)
    return dataclasses.replace(report, money=rates)


def held() -> Report:
    """A job whose download is not what was on the box, and whose model could not be loaded."""
    log = Log().fetched(
        check(
            Stage.POSTDOWNLOAD,
            "local_sha256_equals_remote",
            Verdict.FAIL,
            claim="The local file, hashed from the disk now, has the digest that was computed on the box",
            saw=(Sight("local sha256", "cd" * 32), Sight("bytes", "8098524992")),
            expected=(Sight("recorded on the box", "ab" * 32),),
            message="assert 'cdcd...' == 'abab...'\n  the two files differ",
            remedy="harness download night",
        ),
        check(
            Stage.POSTDOWNLOAD,
            "gguf_generates",
            Verdict.UNKNOWN,
            claim="A llama.cpp runtime loads the file and generates tokens",
            message="could not look: no runtime is installed here",
            remedy="pip install 'gold-standard-harness[runtime]'",
        ),
    )
    log.add(Held(Stage.POSTDOWNLOAD, "GateHeld", "stage postdownload is held: local_sha256_equals_remote"))
    return build(log.history, now=log.at + 600, charges=None, training=training())


def hostile(words: Sequence[str]) -> Report:
    """A held job in every field of which stands one of the words."""
    said = cycle(words)

    def sights() -> tuple[Sight, ...]:
        return (Sight(next(said), next(said)), Sight(next(said), next(said)))

    bent = [
        check(
            Stage.POSTDOWNLOAD,
            name,
            verdict,
            claim=next(said),
            saw=sights(),
            expected=sights(),
            message=next(said),
            remedy=next(said),
        )
        for name, verdict in (
            ("local_file_exists", Verdict.FAIL),
            ("gguf_generates", Verdict.UNKNOWN),
            ("local_size_equals_remote", Verdict.PASS),
        )
    ]
    log = Log().fetched(*bent, path=f"/home/me/{next(said)}")
    for _ in words:
        log.add(Held(Stage.POSTDOWNLOAD, error=next(said), reason=next(said)))
    course = training(40, 9, name=next(said))
    curves = tuple(
        dataclasses.replace(
            curve, title=next(said), lines=tuple(dataclasses.replace(one, name=next(said)) for one in curve.lines)
        )
        for curve in course.curves
    )
    settings = {f"{number} {word}": word for number, word in enumerate(words)}
    bent_course = dataclasses.replace(course, curves=curves, settings=settings, versions=settings, commit=next(said))
    return build(
        log.history,
        now=log.at,
        charges=None,
        evaluation=_evaluation(next(said), tuple(words)),
        rules=(_rule(next(said), next(said)),),
        training=bent_course,
    )


def _gpu(index: int, number: int) -> Gpu:
    use = 97.0 - (index + number) % 5
    return Gpu(index, "NVIDIA H100 80GB HBM3", "570.124.06", 81559.0, 61000.0 + 900 * ((index + number) % 4), use)


def _evaluation(kind: str, doubts: tuple[str, ...]) -> EvaluationReport:
    told = [Accuracy(at, at - 0.019, at + 0.019) for at in (0.577, 0.498, 0.512)]
    return EvaluationReport({kind: Decisions(2612, True, doubts, *told)}, "")


def _rule(words: str, differs: str = "") -> RuleReport:
    checks = () if differs else (RuleCheck(Stage.POSTDOWNLOAD, "local_size_equals_remote"),)
    return RuleReport("vastai-training-agent.md", words, "verify the local file", differs, checks)
