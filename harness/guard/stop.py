"""The guard of stops: the only caller of ``Provider.stop`` for an instance that is not a trial's own.

A stop keeps the disk, and ends a training: it is asked for by the job itself, or, when the operator's limits on all
jobs together are exceeded, for an instance that is looked at anew and is still what was listed.
"""

from __future__ import annotations

from harness.core.errors import HarnessError
from harness.core.ids import InstanceId
from harness.core.ports import Clock, Instance, InstanceStatus, Provider
from harness.core.text import printable

_LOOKS = 5
_PAUSE_S = 2.0
_UNBILLED = frozenset({InstanceStatus.STOPPED, InstanceStatus.EXITED, InstanceStatus.OFFLINE})
"""States in which no GPU is billed; an instance whose stop was accepted does not leave them by itself."""


def ask(provider: Provider, instance_id: InstanceId) -> str | None:
    """Ask for the stop once: why it was not accepted, None when it was."""
    try:
        provider.stop(instance_id)
    except HarnessError as error:
        return printable(str(error), 300)
    return None


def stands(status: InstanceStatus, refused: str | None) -> bool:
    """True when an instance bills no GPU any more; ``refused`` is the answer to the stop that was asked for."""
    return status is InstanceStatus.STOPPED or (refused is None and status in _UNBILLED)


def stop_listed(provider: Provider, listed: Instance, clock: Clock) -> str | None:
    """Stop an instance as it was listed: None when it stands still, else the reason why it may not.

    Nothing is asked when it shows no more, or with another label: an id may be another's by now.
    """
    try:
        shown = provider.instance(listed.id)
        if shown is None or shown.label != listed.label:
            return "it shows no more as it was listed, and nothing was asked"
        refused = ask(provider, listed.id)
        for look in range(_LOOKS):
            if look:
                clock.sleep(_PAUSE_S)
            shown = provider.instance(listed.id)
            if shown is not None and stands(shown.status, refused):
                return None
    except HarnessError as error:
        return printable(str(error), 300)
    return refused or (f"it is {shown.status}" if shown is not None else "it shows no more")
