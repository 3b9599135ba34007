"""The grammar of the training log: each line of the contract that matters, as a typed event. Pure.

The log comes from a rented box and is written to while it is read: it may hold terminal
escapes, carriage returns, lines of any length, bytes that are not UTF-8, and end in a torn
line. ``lines`` makes clean lines of such bytes, ``parse`` makes events of lines; a line
that is not word for word in the grammar is no event. One line is each job's own: its proof line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NewType

from harness.core.ids import Sha256
from harness.core.text import printable
from harness.log.errors import CUES, ErrorLine, error_line
from harness.log.proof import ProofLine

MAX_LINE: Final = 4096
"""Characters of a line that are looked at; no line of the contract comes near it."""


Trainer = NewType("Trainer", str)
"""Name of a trainer that a run goes through, such as ``sft``: its log lines begin with it."""

SFT: Final = Trainer("sft")
DPO: Final = Trainer("dpo")
"""The trainer that learns from preferences: its loss begins at ln 2."""

NAME: Final = r"[a-z][a-z0-9_]{0,15}"
"""A trainer's name."""


@dataclass(frozen=True, slots=True)
class DataAnnounced:
    """The job's proof line: the rows of the operator's data, by the trainer that gets them."""

    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RowsAnnounced:
    """``DATA ...``: one data file as it was read, by the name of its kind; ``built`` of its rows a program made."""

    kind: str
    rows: int
    built: int
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Plan:
    """``PLAN ...``: what the run announces before its first step."""

    steps: Mapping[Trainer, int]
    """Optimizer steps by trainer, in the order in which they run."""
    batch_size: int
    checkpoint_every: int
    lora_r: int
    lora_alpha: float
    dtype: str
    world_size: int
    device_map: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One logged optimizer step; ``loss`` and ``lr`` may be nan or inf, as the trainer wrote them. Seconds a step."""

    trainer: Trainer
    step: int
    total: int
    loss: float
    lr: float
    s_per_step: float
    lr_digits: int | None = field(default=None, compare=False)
    """Digits behind the point of the rate as it was printed; None where it was printed with an exponent."""


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A checkpoint that the run says it saved, by its path relative to the package's directory."""

    trainer: Trainer
    step: int
    path: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The run went on from a checkpoint; the next logged step is beyond ``step``."""

    trainer: Trainer
    step: int
    path: str


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A checkpoint that was not fit to resume from, and why."""

    trainer: Trainer
    step: int
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class StageComplete:
    """A trainer reached its end."""

    trainer: Trainer
    step: int
    total: int


@dataclass(frozen=True, slots=True)
class FirstDpoLoss:
    """The first DPO loss: ln 2 when the reference is the SFT model."""

    loss: float


@dataclass(frozen=True, slots=True)
class GgufWritten:
    """A model file that the run says it wrote; size in bytes."""

    path: str
    size: int
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class TrainingComplete:
    """``TRAINING COMPLETE``: everything is written, the manifest too."""


@dataclass(frozen=True, slots=True)
class TrainingFailed:
    """``TRAINING FAILED: <reason>``."""

    reason: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """The course that a trainer announces for its learning rate: its kind, its peak and the steps up to the peak."""

    trainer: Trainer
    kind: str
    warmup_steps: int
    peak: float


@dataclass(frozen=True, slots=True)
class EpochsAnnounced:
    """``[sft] EPOCHS ...``: rows that a trainer has, and rows that each of its optimizer steps learns from."""

    trainer: Trainer
    rows: int
    rows_a_step: int


Event = (
    DataAnnounced
    | RowsAnnounced
    | Plan
    | EpochsAnnounced
    | Schedule
    | Step
    | CheckpointSaved
    | Resumed
    | PassedOver
    | StageComplete
    | FirstDpoLoss
    | GgufWritten
    | TrainingComplete
    | TrainingFailed
    | ErrorLine
)

_INT = r"([0-9]{1,12})"
_FLOAT = r"([+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?(?:[eE][+-]?[0-9]{1,4})?|nan|inf))"
_TRAINER = rf"\[(?P<trainer>{NAME})\] "
_CHECKPOINT = r"(?P<path>(?:(?!\.)[\w.-]{1,255}/){0,16}checkpoint-(?P<step>[0-9]{1,9}))"
_STEPS = re.compile(rf"({NAME})_steps={_INT}")


def _checkpoint(match: re.Match[str]) -> tuple[Trainer, int, str]:
    return Trainer(match["trainer"]), int(match["step"]), match["path"]


def _digits(number: str) -> int | None:
    return None if "e" in number.lower() else len(number.partition(".")[2])


_GRAMMAR: Final[tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], Event]], ...]] = (
    (
        "[",
        re.compile(rf"{_TRAINER}step {_INT}/{_INT} \({_FLOAT}%\) loss={_FLOAT} lr={_FLOAT} s/step={_FLOAT}"),
        lambda m: Step(Trainer(m[1]), int(m[2]), int(m[3]), float(m[5]), float(m[6]), float(m[7]), _digits(m[6])),
    ),
    ("[", re.compile(rf"{_TRAINER}Saved checkpoint {_CHECKPOINT}"), lambda m: CheckpointSaved(*_checkpoint(m))),
    ("[", re.compile(rf"{_TRAINER}RESUME from {_CHECKPOINT} at step (?P=step)"), lambda m: Resumed(*_checkpoint(m))),
    (
        "[",
        re.compile(rf"{_TRAINER}PASSED OVER {_CHECKPOINT}: (?P<reason>.*)"),
        lambda m: PassedOver(*_checkpoint(m), m["reason"]),
    ),
    (
        "[",
        re.compile(rf"{_TRAINER}COMPLETE {_INT}/{_INT} steps"),
        lambda m: StageComplete(Trainer(m[1]), int(m[2]), int(m[3])),
    ),
    ("[dpo] f", re.compile(rf"\[dpo\] first loss={_FLOAT}"), lambda m: FirstDpoLoss(float(m[1]))),
    (
        "[export]",
        re.compile(rf"\[export\] GGUF (\S.{{0,1022}}) bytes={_INT} sha256=([0-9a-f]{{64}})"),
        lambda m: GgufWritten(m[1], int(m[2]), Sha256(m[3])),
    ),
    (
        "DATA ",
        re.compile(rf"DATA ([a-z_]{{1,40}}) rows={_INT} built={_INT} sha256=([0-9a-f]{{64}})"),
        lambda m: RowsAnnounced(m[1], int(m[2]), int(m[3]), Sha256(m[4])),
    ),
    (
        "PLAN ",
        re.compile(
            rf"PLAN ((?:{NAME}_steps=[0-9]{{1,12}} ){{1,8}})batch_size={_INT} checkpoint_every={_INT} lora_r={_INT}"
            rf" lora_alpha={_FLOAT} dtype=(\S{{1,40}}) world_size={_INT} device_map=(\S{{1,40}}) devices=(\S{{0,1000}})"
        ),
        lambda m: Plan(
            steps={Trainer(name): int(steps) for name, steps in _STEPS.findall(m[1])},
            batch_size=int(m[2]),
            checkpoint_every=int(m[3]),
            lora_r=int(m[4]),
            lora_alpha=float(m[5]),
            dtype=m[6],
            world_size=int(m[7]),
            device_map=m[8],
            devices=tuple(name for name in m[9].split(",") if name),
        ),
    ),
    (
        "[",
        re.compile(rf"{_TRAINER}SCHEDULE ([a-z_]{{1,40}}) warmup_steps={_INT} lr={_FLOAT}"),
        lambda m: Schedule(Trainer(m[1]), m[2], int(m[3]), float(m[4])),
    ),
    (
        "[",
        re.compile(rf"{_TRAINER}EPOCHS {_FLOAT} rows={_INT} rows_a_step={_INT}(?: .*)?"),
        lambda m: EpochsAnnounced(Trainer(m[1]), int(m[3]), int(m[4])),
    ),
    ("TRAINING C", re.compile(r"TRAINING COMPLETE"), lambda _: TrainingComplete()),
    ("TRAINING F", re.compile(r"TRAINING FAILED: (.*)"), lambda m: TrainingFailed(m[1])),
)

PLENTY: Final = rf"^\[{NAME}\] step "
"""Found in those lines of which there are many, each much like the one before."""

_BREAKS = re.compile(rb"\r\n|\n|\r")


def lines(data: bytes, *, torn_end: bool = True) -> Iterator[str]:
    """Clean lines of a log's bytes: cut at MAX_LINE, escapes and control characters removed.

    A carriage return ends a line too: a progress bar redraws itself with it. The bytes after the
    last line break are left out while the log may still grow (``torn_end``): ``loss=0.1`` may
    be the beginning of ``loss=0.123``.
    """
    pieces = _BREAKS.split(data)
    last = pieces.pop()
    if last and not torn_end:
        pieces.append(last)
    for piece in pieces:
        if piece:
            yield printable(piece[: MAX_LINE * 4].decode("utf-8", errors="replace"), MAX_LINE)


_SAID: Final = "step |EPOCHS|SCHEDULE|Saved|RESUME|PASSED|COMPLETE|first|GGUF"
"""Words behind a trainer's name in the lines of the grammar."""


def matters(proof: ProofLine | None, more: str = "") -> str:
    """Found in every line that states an event, and in few others: what is to be read of a large log.

    ``more``: further alternatives, each of which begins with one letter that is rare in text.
    """
    # Without "^" every alternative begins with a letter of its own, and the search skips all other bytes.
    own = f"{re.escape(proof.opening)}|" if proof is not None else ""
    return rf"\[{NAME}\] (?:{_SAID})|DATA |PLAN |TRAINING [CF]|{own}{CUES}{'|' if more else ''}{more}"


def parse_line(line: str) -> Event | None:
    """The event that a clean line states, whatever the job; None when it states none."""
    for start, pattern, build in _GRAMMAR:
        if line.startswith(start):
            match = pattern.fullmatch(line)
            if match is not None:
                return build(match)
    return error_line(line)


def parse(log_lines: Iterable[str], proof: ProofLine | None) -> tuple[Event, ...]:
    """The events of clean lines, in their order; ``proof`` is the job's own line, where it has one."""

    def event(line: str) -> Event | None:
        rows = proof.read(line) if proof is not None else None
        return DataAnnounced(rows) if rows is not None else parse_line(line)

    return tuple(each for each in map(event, log_lines) if each is not None)
