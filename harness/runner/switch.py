"""The dead man's switch of a job's box: armed before the training is launched, and again whenever the job comes back.

The commit point is ``SwitchArmed``. Killed before it, whatever key was made has the name of this job and instance: the
next try deletes it and makes another, which takes its place on the box, where one process watches by what lies there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from harness.context import RunnerContext
from harness.core.canonical import Json
from harness.core.errors import BadInput, GateHeld, HarnessError, HostUnreachable, InstanceDead, LeaseLost
from harness.core.ids import InstanceId
from harness.core.ports import Instance, InstanceStatus
from harness.core.text import human_seconds, printable
from harness.job.model import Job
from harness.ledger.events import Adopted, GateJudged, InstanceStarted, Launched, Polled, Relaunched, Rented
from harness.ledger.history import History
from harness.ledger.kinds import JobEvent
from harness.ledger.noted import AtWork
from harness.ledger.settled import SwitchArmed, SwitchFired
from harness.providers import registry
from harness.providers.scoped_keys import Act, StopKeyIssuer
from harness.remote.acting import act
from harness.remote.probe import program
from harness.runner.progress import ProgressReporter

FIELD = "limits.stop_unheard_s"
_WITHOUT = f"Or take {FIELD} out of the job file: the box then bills until somebody comes back."
_ACT_S = 120.0
_SAME_S = 60.0
"""Seconds by which two accounts of one stop may differ: between two stops lies the shortest silence."""
_SANE_S = 10 * 365 * 86400.0
_SIGHTS = (Launched, Relaunched, GateJudged, Polled, AtWork, SwitchArmed)
"""Events that come of a look at the running box."""
_TAKEN = (None, 200)
"""Answers to a stop after which the box may be gone: none was seen, or it was accepted."""


def require_possible(context: RunnerContext) -> None:
    """Raise BadInput where the job asks for a switch that this provider, or this machine's key, cannot give it.

    Of the embedded provider nothing is asked: it need not run yet, and its key may do everything.
    """
    job = context.job
    if job.limits.stop_unheard_s is None or registry.is_embedded(job.provider.kind):
        return
    keys = context.stop_keys()
    if not keys.may(_own_key(keys), Act.CHANGE_KEYS):
        raise BadInput(
            f"{FIELD}: the key that was found may make no other keys, as behind harness guard lock, and the box gets "
            "one of its own",
            remedy=f"Set a key that may for this command, or harness guard unlock. {_WITHOUT}",
        )


def arm(context: RunnerContext, reporter: ProgressReporter, *, required: bool = False) -> None:
    """See that the switch watches on the box, or that none does, as the job asks; tell what it has done since.

    ``required``: nothing trains yet, and the job is held where it cannot be had, by GateHeld. Later that is noted.
    """
    after_s, rental = context.job.limits.stop_unheard_s, context.history.alive
    if rental is None:
        return
    try:
        if after_s is None:
            disarm(context, reporter)
        else:
            _arm(context, reporter, rental.instance_id, after_s)
    except (LeaseLost, InstanceDead):
        raise
    except HarnessError as error:
        told = f"the box's switch is not as {FIELD} asks for it: {printable(str(error), 500)}"
        if not required:
            reporter.note(told)
        elif isinstance(error, HostUnreachable):
            raise
        else:
            raise GateHeld(f"nothing is launched: {told}", remedy=f"{error.remedy} {_WITHOUT}") from error


def disarm(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Take the switch off the box: the job asks for none any more, or works long without a training."""
    known = context.history.switch
    if known is not None:
        context.require_lease()
        _act(context, "disarm", {})
        context.record(SwitchArmed(known.instance_id, known.key_id))
        reporter.note("the box's switch is off: it does not stop itself")


def revoke(context: RunnerContext, note: Callable[[str], None]) -> None:
    """Delete the keys of instances that are gone, as far as that is to be had: they can do nothing any more."""
    history = context.history
    if not history.all(SwitchArmed) and history.job.limits.stop_unheard_s is None:
        return
    had = {one.instance_id for one in history.all(Rented)} | {one.instance_id for one in history.all(Adopted)}
    alive = history.alive.instance_id if history.alive is not None else None
    names = {key_name(history.job, one) for one in had if one != alive}
    try:
        keys = context.stop_keys()
        _revoke(keys, _own_key(keys), names)
    except HarnessError as error:
        which = f"the box's key ({', '.join(sorted(names))}) could not be deleted at the provider"
        note(f"{which}: {printable(str(error), 300)}. It can do nothing, for its instance is gone")


def ran_until(history: History, shown: Instance | None) -> float | None:
    """Last sight of an instance that stands still by now, as its own switch makes it; None for any other."""
    if shown is None or history.switch is None or history.instance_stopped:
        return None
    if shown.status not in {InstanceStatus.STOPPED, InstanceStatus.EXITED}:
        return None
    return _newest(history, _SIGHTS)


def _newest(history: History, kinds: Iterable[type[JobEvent]]) -> float | None:
    """The latest time of any event of these kinds."""
    names = {kind.kind for kind in kinds}
    return max((record.at for record in history.records if record.kind in names), default=None)


def key_name(job: Job, instance_id: InstanceId) -> str:
    """Name of an instance's key at the provider."""
    return f"gsh-switch-{job.name}-{instance_id}"


def _arm(context: RunnerContext, reporter: ProgressReporter, instance_id: InstanceId, after_s: float) -> None:
    keys, known = context.stop_keys(), context.history.switch
    stop: dict[str, Json] = {"stop": asdict(keys.stop_request(instance_id))}
    context.require_lease()
    if known is not None:
        found = _act(context, "arm", {"key_id": known.key_id, "after_s": after_s, **stop})
        _tell_stop(context, reporter, instance_id, found.get("said"))
        if found.get("armed") is True:
            if known.after_s != after_s:
                context.record(SwitchArmed(instance_id, known.key_id, after_s))
            return
    by, name = _own_key(keys), key_name(context.job, instance_id)
    _revoke(keys, by, {name})
    key = keys.issue_stop_key(by, instance_id, name)
    put = {"key_id": key.id, "after_s": after_s, **stop, "trial": asdict(keys.trial), "key": key.secret}
    context.require_lease()
    found = _act(context, "arm", put)
    if found.get("armed") is not True:
        _revoke(keys, by, {name})
        raise HarnessError(
            "the box cannot ask the provider to stop it: a request that must be refused came to "
            f"{printable(str(found.get('came')), 200)}",
            remedy="See that the box reaches the provider's address over HTTPS (network, certificates), then run the "
            "same command again.",
        )
    context.record(SwitchArmed(instance_id, key.id, after_s))
    reporter.note(f"the box stops itself when nothing trains and nobody is heard from for {human_seconds(after_s)}")


def _tell_stop(context: RunnerContext, reporter: ProgressReporter, instance_id: InstanceId, said: Any) -> None:
    """Record and tell the last stop that the box asked for, if it took effect: it was started again since."""
    try:
        ago_s, idle_s, came = float(said["ago_s"]), float(said["idle_s"]), said["came"]
    except (TypeError, KeyError, ValueError):
        return  # it never asked
    if not (0 <= ago_s <= _SANE_S and 0 <= idle_s <= _SANE_S):
        return
    history = context.history
    at = context.clock.now() - ago_s
    if any(one.instance_id == instance_id and abs(one.at - at) < _SAME_S for one in history.all(SwitchFired)):
        return
    starts = [record.at for record in history.records if record.kind == InstanceStarted.kind]
    launched = _newest(history, (Launched, Relaunched)) or 0.0
    if came in _TAKEN and starts and launched < at < starts[-1]:
        context.record(SwitchFired(instance_id, at, idle_s))
        reporter.note(
            f"the box had stopped itself {human_seconds(ago_s)} ago, its disk kept: nothing trained, and nobody was "
            f"heard from for {human_seconds(idle_s)} ({FIELD})"
        )
    elif came not in _TAKEN:
        reporter.note(
            f"the box tried to stop itself {human_seconds(ago_s)} ago, and could not: {printable(str(came), 200)}"
        )


def _act(context: RunnerContext, verb: str, args: dict[str, Json]) -> dict[str, Any]:
    given = {"directory": context.job.package.remote_dir, **args}
    told = act(context.host(), program.SWITCH, verb, given, of="the box's switch", timeout=_ACT_S)
    return told if isinstance(told, dict) else {}


def _own_key(keys: StopKeyIssuer) -> str:
    """The operator's key: the first that is found, as by the provider's own programs."""
    found = next((place.key for place in keys.places() if place.key), None)
    if found is None:
        raise BadInput("no API key was found to make the box's key with", remedy="Set your own API key.")
    return found


def _revoke(keys: StopKeyIssuer, by: str, names: set[str]) -> None:
    for number, name in keys.named(by).items():
        if name in names:
            keys.revoke(by, number)
