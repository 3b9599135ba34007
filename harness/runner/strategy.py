"""A strategy settled before the launch: proven on the box by the package itself, or the operating rules' way.

The proof runs in a session of its own, in a folder that has the name of what is proven. Killed anywhere, the next run
waits for the same session; the event ``strategy`` is the commit point, and the launch follows it.
"""

from __future__ import annotations

import posixpath

from harness.context import RunnerContext
from harness.core.observed import CouldNotLook
from harness.core.questions import ReadText
from harness.core.text import printable
from harness.facts import strategy as settled
from harness.facts.reading import json_text
from harness.job import strategy
from harness.ledger.settled import StrategySettled
from harness.runner import ahead
from harness.runner.progress import ProgressReporter

_LIMIT = 1 << 16
"""Bytes of a proof, at most: it goes into the event log."""

_OWN_SHARE = 0.9
"""Share of the time that the command gets to end by itself, and to say why."""


def settle(context: RunnerContext, reporter: ProgressReporter, within_s: float) -> None:
    """Try the strategy that the job states, unless that was done for exactly this, and record what is launched."""
    job, history = context.job, context.history
    asked, of = job.training.strategy, settled.binding(history)
    if asked == strategy.SEEDS or settled.settled(history) is not None:
        return
    proof, why = _tried(context, reporter, of, min(job.package.prove_timeout_s, within_s))
    if why:
        event = StrategySettled(asked, strategy.SEEDS, why, of, proof)
    else:
        event = StrategySettled(asked, asked, f"proven, {_speed(proof)}", of, proof)
    context.record(event)
    reporter.note(strategy.told(event.asked, event.used, event.why))


def _tried(
    context: RunnerContext, reporter: ProgressReporter, of: str, within_s: float
) -> tuple[dict[str, object] | None, str]:
    """The proof that was brought home, and why it does not admit the strategy; no reason when it does.

    Raises HostUnreachable for a box that cannot be asked: a launch could not reach it either.
    """
    job = context.job
    argv = strategy.proving(job, within_s * _OWN_SHARE, of)
    name = f"prove-{of[:12]}"
    try:
        if ahead.session(context, name).start(("sh", "-c", 'cd ../../.. && exec "$@"', "sh", *argv)):
            reporter.note(f"proving strategy {job.training.strategy!r} on the box, {within_s:.0f} s at most")
        status = ahead.ended(context, reporter, name, job.package.prove, within_s)
    except CouldNotLook as error:
        return None, f"could_not_run: {printable(str(error), 300)}"
    if status is None:
        return None, f"cut: it did not end by itself within {within_s:.0f} s"
    where = ReadText(posixpath.join(job.package.remote_dir, strategy.PROOF), _LIMIT)
    found = json_text(context.host().probe([where])[where])
    told = found.value.json if found.value is not None else None
    proof = told if isinstance(told, dict) else None
    why = strategy.shortfall(proof, job, of)
    if proof is None or (status != 0 and not why):
        said = ahead.last_words(context, name)
        return proof, f"could_not_run: it ended with status {status}: {said or found.problem or 'it said nothing'}"
    return proof, why


def _speed(proof: object) -> str:
    found = proof.get("speedup") if isinstance(proof, dict) else None
    return f"{found:.2f} times one process" if isinstance(found, float) else "on this box"
