"""A JSON answer, edited as a fault says. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.emulator.scenario import ApiFault


def edited(data: Any, fault: ApiFault) -> Any:
    """The answer, changed in place; a member that is not there is set, and is neither left out nor cut."""
    for path in fault.unset:
        for holder, name in _members(data, path):
            holder.pop(name, None)
    for path, value in fault.set.items():
        for holder, name in _members(data, path):
            holder[name] = value
    for path, length in fault.cut.items():
        for holder, name in _members(data, path):
            if isinstance(holder.get(name), str):
                holder[name] = holder[name][:length]
    return data


def _members(data: Any, path: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects that have the last member of a dotted path, and its name; lists on the way are walked."""
    name, _, below = path.partition(".")
    for holder in data if isinstance(data, list) else [data]:
        if isinstance(holder, dict):
            if below:
                yield from _members(holder.get(name), below)
            else:
                yield holder, name
