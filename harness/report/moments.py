"""The event log as a timeline of sentences. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.core.text import printable
from harness.job import strategy
from harness.ledger import events, noted, settled
from harness.ledger.chain import Record
from harness.ledger.codec import decode
from harness.ledger.kinds import JobEvent
from harness.report import numbers
from harness.report.model import Moment

_MOST = 500
"""Moments in a timeline; of a longer log the first and the last are shown."""


def timeline(records: Sequence[Record]) -> tuple[Moment, ...]:
    """A sentence an event; equal ones in a row are counted."""
    moments: list[Moment] = []
    for record in records:
        event = decode(record)
        text = printable(record.kind, 80) if event is None else printable(_sentence(event), 600)
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


def _sentence(event: JobEvent) -> str:
    measure = ""
    if isinstance(event, events.Staged):
        measure = f"{len(event.files)} files"
    elif isinstance(event, noted.ImageHad):
        measure = f"{len(event.versions)} of {len(event.versions) + len(event.missing)}"
    elif isinstance(event, events.ArtifactRecorded | events.Fetched):
        measure = numbers.size(event.size)
    elif isinstance(event, events.Adopted | events.Rented):
        measure = f" at {numbers.per_hour(event.usd_per_hour)}" if event.usd_per_hour else ""
    elif isinstance(event, events.PlanAgreed):
        measure = f"a rental of about ${event.usd:.2f}, at most ${event.budget_usd:.2f}," if event.usd else _CLAIM
    elif isinstance(event, events.PlanRefused):
        measure = f"a rental of about ${event.usd:.2f}" if event.usd else _CLAIM
    elif isinstance(event, settled.StrategySettled):
        measure = strategy.told(event.asked, event.used, event.why)
    elif isinstance(event, events.Evaluated):
        measure = f"the model was not evaluated: {event.problem}" if event.problem else "its evaluation is here"
    elif isinstance(event, events.Destroyed | events.Abandoned) and event.by is not None:
        measure = f"; it was destroyed by {event.by}"
    return _SENTENCES[type(event)].format(event, measure=measure)


_CLAIM = "a claim on a machine of one's own"
_SENTENCES: Mapping[type[JobEvent], str] = {
    events.Opened: "the job file was read: {0.file}",
    events.Adopted: "instance {0.instance_id}, labelled {0.label}, was taken over{measure}",
    events.StageEntered: "stage {0.stage} began",
    events.GateJudged: "gate {0.stage}: {0.verdict}",
    events.Polled: "a look at {0.stage}: {0.verdict}",
    events.Staged: "the package was snapshotted: {measure}",
    events.PlanAgreed: "{measure} was agreed to ({0.how})",
    events.PlanRefused: "{measure} was not agreed to",
    events.RentIntended: "about to rent under the label {0.label}",
    events.RentFailed: "the rent came to nothing: {0.why}",
    events.Rented: "instance {0.instance_id} rented{measure}",
    events.Pinned: "the box's host key was pinned ({0.how})",
    events.Resumes: "the training goes on here from {0.steps}",
    events.Uploaded: "{0.files} files are on the box, verified there",
    events.Installed: "the install command ended with status {0.status}",
    noted.ImageHad: "the image met {measure} of the package's requirements",
    noted.BaseFetched: "the command that fetches the base model ended with status {0.status}",
    settled.StrategySettled: "{measure}",
    settled.SwitchArmed: "{0.told}",
    settled.SwitchFired: "the box had stopped itself: nobody was heard from for {0.unheard_s:.0f} s",
    events.Launched: "the training was started",
    events.Relaunched: "the training was started again: {0.why}",
    events.CheckpointMirrored: "the checkpoint of {0.trainer} step {0.step} was mirrored here",
    noted.AtWork: "the training is at {0.part}",
    events.Trained: "the training was seen to have ended",
    events.ArtifactRecorded: "the box holds {0.path}: {measure}, SHA-256 {0.sha256}",
    events.Fetched: "it is here: {0.path}, {measure}, SHA-256 {0.sha256}",
    events.Verified: "verified on this disk: {0.path}",
    events.EvaluationBegun: "the package was asked to judge its model",
    events.Evaluated: "{measure}",
    events.Released: "release statement {0.path}",
    events.Confirmed: "the destruction was confirmed: {0.how}",
    events.Guarded: "the guard looked at everything and let it go",
    events.DestroyIntended: "about to ask for instance {0.instance_id} to be destroyed",
    events.DestroyRequested: "destruction of instance {0.instance_id} requested: {0.reply}",
    events.Destroyed: "instance {0.instance_id} proven to be gone{measure}",
    events.Closed: "the job is closed",
    events.Held: "held at {0.stage}: {0.reason}",
    events.Reopened: "gate {0.stage} was reopened: {0.why}",
    events.TrainingStopped: "the training was stopped: {0.why}",
    events.InstanceStopped: "instance {0.instance_id} was stopped, its disk kept: {0.why}",
    events.InstanceStarted: "instance {0.instance_id} was started again",
    events.BudgetNear: "${0.spent_usd:.2f} of the budget of ${0.budget_usd:.2f} are spent",
    events.LossAccepted: "the loss of what is on instance {0.instance_id} was accepted",
    events.Abandoned: "instance {0.instance_id} was given up and is proven to be gone{measure}",
    events.Lost: "instance {0.instance_id} died and is proven to be gone; another may take its place ({0.how})",
}
