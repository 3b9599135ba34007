"""The strategy that was settled for a job's training on the instance that it has. Pure."""

from __future__ import annotations

from harness.artifacts import digest
from harness.core.canonical import Json, canonical
from harness.core.observed import Observed, seen, unseen
from harness.job import strategy
from harness.ledger.history import History
from harness.ledger.settled import StrategySettled


def binding(history: History) -> str:
    """Names what a proof has to be of: package, base, strategy, GPUs, instance, the two commands, rows a step."""
    job, asked = history.job, history.job.training.strategy
    machine = [job.machine.gpu, str(job.machine.gpus), str(history.rental.instance_id) if history.rental else ""]
    rows: list[Json] = [job.training.rows_a_step(name) for name in job.trainers]
    commands: list[Json] = [list(job.package.prove), list(job.training.command)]
    words: list[Json] = [history.package or "", job.model.base, asked, *machine, *commands, rows]
    return digest.of_bytes(canonical(words))


def settled(history: History) -> StrategySettled | None:
    """Event of what was settled last; None when that was for another package, base, strategy or instance."""
    last = history.strategy
    return last if last is not None and last.of == binding(history) else None


def used(history: History) -> str:
    """Strategy that the training is started by: never one that was not settled for exactly this."""
    last = settled(history)
    return last.used if last is not None else strategy.SEEDS


def look(history: History) -> Observed[StrategySettled]:
    """Event of what was settled, as a fact of the launch."""
    last = settled(history)
    return seen(last) if last is not None else unseen("no strategy was settled before the launch")
