"""Course of a training as the job recorded it: its steps, its GPUs, its settings, read from the job's directory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.artifacts import digest
from harness.core.answers import Gpus
from harness.core.canonical import table
from harness.core.lifecycle import Stage
from harness.core.observed import Observed
from harness.facts import run_file, traininglog
from harness.facts import strategy as strategy_facts
from harness.gates.facts_file import name_of
from harness.job import strategy
from harness.job.model import Job
from harness.ledger.codec import decode
from harness.ledger.events import GateJudged, Polled
from harness.ledger.history import History
from harness.log.summary import RECORDS, LogSummary
from harness.report import series
from harness.report.model import TrainingReport

_LOOKS: Final = 48
_LOOKS_BYTES: Final = 24 << 20
"""Looks that are read for a plot, at most: each holds the whole log of its time, and a report is made in seconds."""

_TRIES: Final = 4
_LOG_BYTES: Final = 64 << 20
_ROWS: Final = 200
"""Settings that are shown, at most."""

_COMMITS: Final = ("git_commit", "commit", "git_sha", "git_revision", "revision")

T = TypeVar("T")
_Judgement = GateJudged | Polled
_LOG: Final[TypeAdapter[Observed[LogSummary]]] = TypeAdapter(Observed[LogSummary])
_GPUS: Final[TypeAdapter[Observed[Gpus]]] = TypeAdapter(Observed[Gpus])


def training(history: History, directory: Path) -> TrainingReport:
    """All that the job's directory tells of its training; where something is not there, the plot says why."""
    looks = [
        (record.at, event)
        for record in history.records
        if isinstance(event := decode(record), _Judgement) and event.stage in {Stage.TRAINING, Stage.POSTTRAIN}
    ]
    log, source = _log(history, [event for _, event in looks], directory)
    seen = list(_gpus([(at, event) for at, event in looks if event.stage is Stage.TRAINING], directory))
    no_looks = "" if seen else "no look at the running training is recorded here"
    run = run_file.read(directory / "companions")
    stated = run.get("settings")
    if not isinstance(stated, dict):
        stated = {name: value for name, value in run.items() if name != "versions"}
    return TrainingReport(
        curves=(
            *series.of_log(history.job.trainers, log, "" if log is not None else source),
            *series.of_gpus(seen, no_looks),
        ),
        source=source,
        settings=_strategy(history) | dict(list(_flat(stated))[:_ROWS]),
        versions=dict(list(_flat(table(run.get("versions"))))[:_ROWS]),
        commit=next((run[name] for name in _COMMITS if isinstance(run.get(name), str)), ""),
    )


def _strategy(history: History) -> dict[str, str]:
    """Setting that tells the strategy that was asked for and the one that was used, where one was settled."""
    last = strategy_facts.settled(history)
    return {"strategy": strategy.told(last.asked, last.used, last.why)} if last is not None else {}


def _log(history: History, looks: Sequence[_Judgement], directory: Path) -> tuple[LogSummary | None, str]:
    """The newest log that was judged, else the log that came home; with the record's name, or why there is none."""
    for look in list(reversed(looks))[:_TRIES]:
        log = _fact(_facts(look, directory), "log", _LOG)
        if log is not None:
            return log, f"evidence/{name_of(look.facts_path)}, SHA-256 {look.facts_sha256}{_rests_on(history.job)}"
    path = directory / "companions" / "training.log"
    try:
        data = path.read_bytes() if path.stat().st_size <= _LOG_BYTES else b""
    except OSError:
        return None, "no look at the training is recorded here" if looks else "the training has not been looked at yet"
    return traininglog.summary_of(history.job, data, torn_end=False), f"companions/training.log{_rests_on(history.job)}"


def _rests_on(job: Job) -> str:
    return f"; it rests on {RECORDS}" if job.unmodified else ""


def _gpus(looks: Sequence[tuple[float, _Judgement]], directory: Path) -> Iterator[tuple[float, Gpus]]:
    """The GPUs at some of the looks, evenly chosen: as many as are read in a moment."""
    largest = max((_bytes(look, directory) for _, look in looks), default=0)
    most = max(2, min(_LOOKS, _LOOKS_BYTES // max(1, largest)))
    for index in series.evenly(len(looks), most):
        at, look = looks[index]
        gpus = _fact(_facts(look, directory), "gpus", _GPUS)
        if gpus is not None:
            yield at, gpus


def _facts(look: _Judgement, directory: Path) -> Mapping[str, Any]:
    """The facts that a judgement rests on; empty when their file is not the one that the event log names."""
    try:
        data = _path(look, directory).read_bytes()
        if digest.of_bytes(data) != look.facts_sha256:
            return {}
        return table(json.loads(data)["facts"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _fact(facts: Mapping[str, Any], name: str, kind: TypeAdapter[Observed[T]]) -> T | None:
    try:
        return kind.validate_python(facts[name]).value
    except (KeyError, ValidationError):
        return None


def _path(look: _Judgement, directory: Path) -> Path:
    """The facts file in this job's directory, wherever it lay when it was written."""
    return directory / "evidence" / name_of(look.facts_path)


def _bytes(look: _Judgement, directory: Path) -> int:
    try:
        return _path(look, directory).stat().st_size
    except OSError:
        return 0


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each single setting by its dotted name."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _flat(one, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        yield path, ", ".join(one if isinstance(one, str) else json.dumps(one) for one in value)
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)
