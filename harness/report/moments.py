"""The event log as a timeline of sentences, and a stranger's words made fit for a report. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.text import human_bytes, printable
from harness.ledger import events
from harness.ledger.chain import Record
from harness.ledger.codec import decode
from harness.ledger.events import JobEvent
from harness.report.model import Moment

_LIMIT = 2000
_MOST = 500
"""Moments in a timeline; of a longer log the first and the last are shown."""


def clean(text: str, limit: int = _LIMIT) -> str:
    """Printable and bounded; half of a surrogate pair, which no file can hold, becomes a replacement character."""
    return printable(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), limit)


def timeline(records: Sequence[Record]) -> tuple[Moment, ...]:
    """A sentence an event; equal ones in a row are counted."""
    moments: list[Moment] = []
    for record in records:
        event = decode(record)
        text = clean(record.kind, 80) if event is None else clean(_sentence(event), 600)
        if moments and (moments[-1].kind, moments[-1].text) == (record.kind, text):
            moments[-1] = Moment(record.seq, record.at, record.kind, text, moments[-1].times + 1)
        else:
            moments.append(Moment(record.seq, record.at, record.kind, text))
    if len(moments) <= _MOST:
        return tuple(moments)
    half = _MOST // 2
    gap = moments[-half - 1]
    left_out = Moment(gap.seq, gap.at, "", f"{len(moments) - 2 * half} moments are left out here")
    return (*moments[:half], left_out, *moments[-half:])


def _sentence(event: JobEvent) -> str:  # noqa: C901, PLR0911, PLR0912 - one case a kind
    match event:
        case events.Opened():
            return f"the job file was read: {event.file}"
        case events.Adopted():
            price = f"${event.usd_per_hour}/h"
            return f"instance {event.instance_id}, labelled {event.label}, was taken over at {price}"
        case events.StageEntered():
            return f"stage {event.stage} began"
        case events.GateJudged():
            return f"gate {event.stage}: {event.verdict}"
        case events.Polled():
            return f"a look at {event.stage}: {event.verdict}"
        case events.Staged():
            return f"the package was snapshotted: {len(event.files)} files"
        case events.RentIntended():
            return f"about to rent under the label {event.label}"
        case events.RentFailed():
            return f"the rent came to nothing: {event.why}"
        case events.Rented():
            return f"instance {event.instance_id} rented at ${event.usd_per_hour}/h"
        case events.Pinned():
            return f"the box's host key was pinned ({event.how})"
        case events.Resumes():
            return f"the training goes on here from {dict(event.steps)}"
        case events.Uploaded():
            return f"{event.files} files are on the box, verified there"
        case events.Installed():
            return f"the install command ended with status {event.status}"
        case events.Launched():
            return "the training was started"
        case events.Relaunched():
            return f"the training was started again: {event.why}"
        case events.CheckpointMirrored():
            return f"the checkpoint of {event.trainer} step {event.step} was mirrored here"
        case events.Trained():
            return "the training was seen to have ended"
        case events.ArtifactRecorded():
            return f"the box holds {event.path}: {human_bytes(event.size)}, SHA-256 {event.sha256}"
        case events.Fetched():
            return f"it is here: {event.path}, {human_bytes(event.size)}, SHA-256 {event.sha256}"
        case events.Verified():
            return f"verified on this disk: {event.path}"
        case events.Released():
            return f"release statement {event.path}"
        case events.Confirmed():
            return f"the destruction was confirmed: {event.how}"
        case events.Guarded():
            return "the guard looked at everything and let it go"
        case events.DestroyIntended():
            return f"about to ask for instance {event.instance_id} to be destroyed"
        case events.DestroyRequested():
            return f"destruction of instance {event.instance_id} requested: {event.reply}"
        case events.Destroyed():
            return f"instance {event.instance_id} proven to be gone"
        case events.Closed():
            return "the job is closed"
        case events.Held():
            return f"held at {event.stage}: {event.reason}"
        case events.Reopened():
            return f"gate {event.stage} was reopened: {event.why}"
        case events.TrainingStopped():
            return f"the training was stopped: {event.why}"
        case events.InstanceStopped():
            return f"instance {event.instance_id} was stopped, its disk kept: {event.why}"
        case events.InstanceStarted():
            return f"instance {event.instance_id} was started again"
        case events.LossAccepted():
            return f"the loss of what is on instance {event.instance_id} was accepted"
        case events.Abandoned():
            return f"instance {event.instance_id} was given up and is proven to be gone"
        case events.Lost():
            gone = f"instance {event.instance_id} died and is proven to be gone"
            return f"{gone}; another may take its place ({event.how})"
