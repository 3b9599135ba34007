"""The event log as a timeline of sentences, and a stranger's words made fit for a report. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.core.text import human_bytes, printable
from harness.ledger.events import Event
from harness.report.model import Moment

_LIMIT = 2000
_MOST = 500
"""Moments in a timeline; of a longer log the first and the last are shown."""

_SAY: Mapping[str, str] = {
    "opened": "the job file was read: {file}",
    "stage": "stage {stage} began",
    "staged": "the package was snapshotted: {#files} files",
    "rent_intended": "about to rent under the label {label}",
    "rent_failed": "the rent came to nothing: {why}",
    "rented": "instance {instance_id} rented at ${usd_per_hour}/h",
    "adopted": "instance {instance_id}, labelled {label}, was taken over at ${usd_per_hour}/h",
    "pinned": "the box's host key was pinned ({how})",
    "uploaded": "{files} files are on the box, verified there",
    "installed": "the install command ended with status {status}",
    "launched": "the training was started",
    "relaunched": "the training was started again: {why}",
    "lost": "instance {instance_id} died and is proven to be gone; another may take its place ({how})",
    "abandoned": "instance {instance_id} was given up and is proven to be gone",
    "loss_accepted": "the loss of what is on instance {instance_id} was accepted",
    "resumes": "the training goes on here from {steps}",
    "mirrored": "the checkpoint of {trainer} step {step} was mirrored here",
    "trained": "the training was seen to have ended",
    "artifact": "the box holds {path}: {size~}, SHA-256 {sha256}",
    "fetched": "it is here: {path}, {size~}, SHA-256 {sha256}",
    "gate": "gate {stage}: {verdict}",
    "poll": "a look at {stage}: {verdict}",
    "verified": "verified on this disk: {path}",
    "released": "release statement {path}",
    "confirmed": "the destruction was confirmed: {how}",
    "guarded": "the guard looked at everything and let it go",
    "destroy_intended": "about to ask for instance {instance_id} to be destroyed",
    "destroy_requested": "destruction of instance {instance_id} requested: {reply}",
    "destroyed": "instance {instance_id} proven to be gone",
    "closed": "the job is closed",
    "held": "held at {stage}: {reason}",
    "training_stopped": "the training was stopped: {why}",
    "instance_stopped": "instance {instance_id} was stopped, its disk kept: {why}",
    "instance_started": "instance {instance_id} was started again",
}


def clean(text: str, limit: int = _LIMIT) -> str:
    """Printable and bounded; half of a surrogate pair, which no file can hold, becomes a replacement character."""
    return printable(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), limit)


def timeline(events: Sequence[Event]) -> tuple[Moment, ...]:
    """A sentence an event; equal ones in a row are counted."""
    moments: list[Moment] = []
    for event in events:
        text = _sentence(event)
        if moments and (moments[-1].kind, moments[-1].text) == (event.kind, text):
            moments[-1] = Moment(event.seq, event.at, event.kind, text, moments[-1].times + 1)
        else:
            moments.append(Moment(event.seq, event.at, event.kind, text))
    if len(moments) <= _MOST:
        return tuple(moments)
    half = _MOST // 2
    gap = moments[-half - 1]
    left_out = Moment(gap.seq, gap.at, "", f"{len(moments) - 2 * half} moments are left out here")
    return (*moments[:half], left_out, *moments[-half:])


def _sentence(event: Event) -> str:
    data: Mapping[str, Any] = event.data
    said = _SAY.get(event.kind)
    if said is None:
        return clean(event.kind, 80)
    return clean("".join(_filled(said, data)), 600)


def _filled(said: str, data: Mapping[str, Any]) -> Iterable[str]:
    """The sentence with its fields; ``{#x}`` counts, ``{x~}`` is bytes for people. What is not there is said so."""
    before, *rest = said.split("{")
    yield before
    for part in rest:
        name, after = part.split("}", 1)
        key = name.strip("#~")
        value = data.get(key)
        if value is None:
            yield "unknown"
        elif name.startswith("#"):
            yield str(len(value)) if isinstance(value, Mapping | Sequence) else "unknown"
        elif name.endswith("~"):
            yield human_bytes(value) if isinstance(value, int | float) else "unknown"
        else:
            yield str(value)[:600]
        yield after
