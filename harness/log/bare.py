"""A log as trainers print it by themselves: a record for each logged step. Pure.

Four ways to write one are known: a dictionary as Python shows it (transformers, TRL and what rests on them; version 4
prints numbers, version 5 prints them as text; either may stand behind a progress bar), an object of JSON to a line
(``logging.jsonl`` of ms-swift, ``trainer_log.jsonl`` of LLaMA-Factory), and ``Step N | loss:... lr:...`` of torchtune.
Where a record does not tell its step, the progress bar drawn around it does; without any, steps are counted as they are
logged.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from harness.log import bars, launches
from harness.log.bars import Drawn
from harness.log.grammar import DPO, SFT, StageComplete, Step, Trainer
from harness.log.summary import TrainerLog

_NUMBER: Final = re.compile(r"[+-]?(?:nan|inf|[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?)")
_PYTHON: Final = re.compile(r"\{'[^{}]*\}")
_PYTHON_PAIR: Final = re.compile(r"'([^']+)': '?([^',{}]*)'?(?=[,}])")
_TORCHTUNE: Final = re.compile(r"(?:^|[\s\]])Step (\d{1,12}) \| (\S.*)")
_TORCHTUNE_PAIR: Final = re.compile(r"([\w/.-]+):(\S+)")
_COUNTED: Final = re.compile(r"(\d{1,12})/(\d{1,12})")
"""ms-swift tells step and total in one text, under ``global_step/max_steps``."""
_OTHER_NAMES: Final = {
    "lr": "learning_rate",
    "val_loss": "eval_loss",
    "current_steps": "step",
    "total_steps": "total",
    "train_speed(s/it)": "s_per_step",
}
_PACE: Final = "train_speed(iter/s)"
CUES: Final = rf"loss['\":]|train_runtime|total_steps|max_steps|{launches.CUE}|{bars.CUES}"
"""Found in every line that tells of an unmodified trainer's work."""

PLENTY: Final = r"loss['\":]"
"""Found in the records of its steps, of which there are many, each much like the one before."""

_LONGEST_TEXT: Final = 40
"""Characters of a text in a trainer's record, which tells a time or a share; a longer one is of a row of data."""

Entry = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class BareTraining:
    """One ``train()`` of a trainer: what it logged, in its order, and whether it said that it is done."""

    trainer: Trainer
    entries: tuple[Entry, ...]
    ended: bool
    begins_at: int = 0
    """Number of the line of its first step, the log's first being 0."""
    eval_losses: tuple[float, ...] = ()
    launch: int = 0
    """Number of launches that the log tells of before it."""
    numbered: bool = False
    """True when the log tells the step of each record, itself or by a bar; else the records are counted."""
    total: int | None = None
    """Steps to which it counts, None where nothing tells."""
    reached: int = 0
    """Newest step by its bar, which may be beyond that of the newest record."""
    summary: Entry = field(default_factory=dict)
    """The record with which it ended."""

    @property
    def epochs(self) -> float | None:
        """Times that it went through its rows, as transformers and its kin count them."""
        return self.summary.get("epoch", self.entries[-1].get("epoch"))

    @property
    def samples(self) -> float | None:
        """Rows that its steps took, by the two numbers that transformers makes of them."""
        rate, seconds = self.summary.get("train_samples_per_second"), self.summary.get("train_runtime")
        return rate * seconds if rate and seconds else None

    def all(self, name: str) -> tuple[float, ...]:
        """The values logged under a name."""
        return tuple(entry[name] for entry in self.entries if name in entry)

    @property
    def by_rewards(self) -> bool:
        """True for GRPO and its kin: their loss is a mean of advantages, near 0 or below, and tells no course."""
        return all("reward" in entry for entry in self.entries)

    @property
    def log(self) -> TrainerLog:
        """The same, as the contract's lines would have told it."""
        numbers = [int(entry.get("step", at)) for at, entry in enumerate(self.entries, start=1)]
        total = int(self.entries[-1].get("total", numbers[-1]))
        return TrainerLog(
            steps=tuple(
                Step(
                    self.trainer,
                    number,
                    total,
                    entry["loss"],
                    entry.get(_RATE, math.nan),
                    entry.get(_SECONDS, math.nan),
                )
                for number, entry in zip(numbers, self.entries, strict=True)
            ),
            complete=StageComplete(self.trainer, numbers[-1], total) if self.ended else None,
        )


_RATE: Final = "learning_rate"
_SECONDS: Final = "s_per_step"


@dataclass(slots=True)
class _Told:
    """A training that is being read: its records, and of each the bars that were newest before and drawn next."""

    launch: int
    begins_at: int
    announced: int | None
    entries: list[Entry] = field(default_factory=list)
    around: list[tuple[Mapping[int, Drawn], Drawn | None]] = field(default_factory=list)
    evaluated: list[float] = field(default_factory=list)
    summary: Entry | None = None
    furthest: dict[int, int] = field(default_factory=dict)

    def draw(self, bar: Drawn) -> None:
        """Note a bar."""
        self.furthest[bar.total] = max(bar.step, self.furthest.get(bar.total, 0))
        before, after = self.around[-1]
        if after is None:
            self.around[-1] = (before, bar)

    def training(self) -> BareTraining:
        """The training as a whole: its steps by its records, else by its bars, else by their order."""
        total, found = self._counted()
        told = bool(found) or all("step" in entry for entry in self.entries)
        entries = (
            [
                {"step": number, "total": total or number, "s_per_step": bar.s_per_step, **entry}
                for entry, (number, bar) in zip(self.entries, found, strict=True)
            ]
            if found
            else self.entries
        )
        by_record = self.entries[-1].get("total")
        counted_to = int(by_record) if by_record is not None else total if found else self.announced
        return BareTraining(
            _trainer(self.entries[0]),
            tuple(entries),
            self.summary is not None,
            self.begins_at,
            tuple(self.evaluated),
            self.launch,
            told,
            counted_to,
            self.furthest.get(counted_to, 0) if counted_to is not None else 0,
            self.summary or {},
        )

    def _counted(self) -> tuple[int | None, list[tuple[int, Drawn]]]:
        """Total and, record by record, step and bar; no steps where records tell their own, or no bar fits all.

        tqdm draws its bar anew behind what it prints, so that the next one tells the step; where something else
        prints, the one before does. Steps are logged every so many, and the fitting bars are those that say so.
        """
        drawn = Counter(after.total for _, after in self.around if after) or Counter(
            bar.total for before, _ in self.around for bar in before.values()
        )
        if not drawn or any("step" in entry for entry in self.entries):
            return None, []
        total = drawn.most_common(1)[0][0]
        if self.announced is not None and self.announced in drawn:
            total = self.announced
        earlier = [before.get(total) for before, _ in self.around]
        later = [
            after if after is not None and after.total == total else before.get(total) for before, after in self.around
        ]
        waits = self.around[-1][1] is None  # the newest record's bar is not drawn again yet
        series = [_numbered(earlier, total, waits=False), _numbered(later, total, waits=waits)]
        return max(((total, found) for found in series), key=lambda one: _regular([step for step, _ in one[1]]))


def _numbered(bars_: Sequence[Drawn | None], total: int, *, waits: bool) -> list[tuple[int, Drawn]]:
    """Steps by bars, record by record; none unless they rise from one record to the next."""
    found = [(bar.step, bar) for bar in bars_ if bar is not None]
    if waits and len(found) > 1 and found[-1][0] <= found[-2][0]:
        before = found[-3][0] if len(found) > 2 else 0
        found[-1] = (2 * found[-2][0] - before, found[-1][1])
    steps = [step for step, _ in found]
    rising = all(one < other for one, other in pairwise([0, *steps]))
    return found if len(found) == len(bars_) and rising and steps[-1] <= total else []


def _regular(steps: Sequence[int]) -> int:
    """Number of steps that are multiples of what usually lies between two."""
    usual = Counter(other - one for one, other in pairwise([0, *steps])).most_common(1)
    return sum(step % usual[0][0] == 0 for step in steps) if usual else -1


def read(log_lines: Iterable[str]) -> tuple[BareTraining, ...]:
    """The trainings that clean lines tell of, one after the other."""
    reader = _Reader()
    for at, line in enumerate(log_lines):
        reader.take(at, line)
    return tuple(one.training() for one in reader.told)


@dataclass(slots=True)
class _Reader:
    """Reads line by line; ``open`` is false where the next step belongs to another training."""

    told: list[_Told] = field(default_factory=list)
    newest: dict[int, Drawn] = field(default_factory=dict)
    launch: int = 0
    announced: int | None = None
    open: bool = False

    def take(self, at: int, line: str) -> None:
        """Read one clean line."""
        total = bars.announced(line)
        if launches.read(line) is not None or total is not None:
            self.launch += total is None
            self.announced, self.open, self.newest = total, False, {}
            return
        bar = bars.of_line(line)
        if bar is not None and bar.loss is None:
            self.newest[bar.total] = bar
            if self.told:
                self.told[-1].draw(bar)
        for entry in _entries(line, bar):
            if "loss" in entry:
                self._step(at, entry)
            elif self.told and _ends(entry):
                self.told[-1].summary, self.open, self.newest = entry, False, {}
            elif self.open:
                self.told[-1].evaluated.append(entry["eval_loss"])

    def _step(self, at: int, entry: Entry) -> None:
        if not (self.open and _goes_on(self.told[-1].entries[-1], entry)):
            self.told.append(_Told(self.launch, at, self.announced))
            self.announced, self.open = None, True
        elif _again(self.told[-1].entries[-1], entry):
            return
        self.told[-1].entries.append(entry)
        self.told[-1].around.append((dict(self.newest), None))


def tells_of_steps(log_lines: Iterable[str]) -> bool:
    """True when one of some clean lines is a trainer's record of a step."""
    return any("loss" in entry for line in log_lines for entry in _entries(line, bars.of_line(line)))


def _entries(line: str, bar: Drawn | None) -> Iterator[Entry]:
    found = [entry for record in _records(line) if _tells(entry := _entry(record))]
    if not found and bar is not None and bar.loss is not None and bar.epoch is not None:
        found = [{"step": float(bar.step), "loss": bar.loss, "s_per_step": bar.s_per_step}]
    yield from found


def _tells(entry: Entry) -> bool:
    return not entry.keys().isdisjoint({"loss", "eval_loss"}) or _ends(entry)


def _again(before: Entry, entry: Entry) -> bool:
    """True for the same step once more: torchtune draws its bar twice with each loss."""
    return "step" in entry and entry["step"] == before.get("step") and entry["loss"] == before["loss"]


def _records(line: str) -> Iterator[Mapping[str, str]]:
    if line.startswith('{"'):
        record = _object(line)
        if record is not None:
            yield record
        return
    for shown in _PYTHON.finditer(line):
        yield dict(_PYTHON_PAIR.findall(shown.group()))
    if (logged := _TORCHTUNE.search(line)) is not None:
        yield {"step": logged[1], **dict(_TORCHTUNE_PAIR.findall(logged[2]))}


def _object(line: str) -> Mapping[str, str] | None:
    """A trainer's record in JSON; None for a row of data, which holds texts, and for what is cut."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    texts = [value for value in told.values() if isinstance(value, str)]
    if any(len(text) > _LONGEST_TEXT or not any(map(str.isdigit, text)) for text in texts):
        return None
    return {name: str(value) for name, value in told.items()}


def _entry(record: Mapping[str, str]) -> Entry:
    """Numbers of a record by transformers' names for them; ``step`` and ``total`` where it tells them."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if _NUMBER.fullmatch(value):
            found[_OTHER_NAMES.get(name, name)] = float(value)
        elif "global_step" in name and (counted := _COUNTED.fullmatch(value)) is not None:
            found |= {"step": float(counted[1]), "total": float(counted[2])}
    if found.get(_PACE):
        found["s_per_step"] = 1 / found[_PACE]
    return found


def _ends(entry: Entry) -> bool:
    """True for what a trainer logs last: its summary, or its last step once more without a loss."""
    if "train_runtime" in entry:
        return True
    return entry.keys().isdisjoint({"loss", "eval_loss"}) and entry.get("step", 0.0) >= entry.get("total", math.inf)


def _trainer(entry: Entry) -> Trainer:
    return DPO if "rewards/margins" in entry else SFT


def _goes_on(before: Entry, entry: Entry) -> bool:
    """False when the step went back, or another kind is logged: another training has begun, or this one again."""
    place = "step" if "step" in before and "step" in entry else "epoch"
    return _trainer(entry) == _trainer(before) and entry.get(place, 0.0) >= before.get(place, 0.0)
