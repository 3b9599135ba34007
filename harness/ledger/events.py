"""Everything that can happen to a job, one class a kind, in the order of a good run; what may stand in its way follows.

Each event is a commit point: a process killed between two goes on from the last one written. It is stored under
``kind``, with one JSON key a field. A field without a default is always stored; one whose default is None only when
it is known, for older logs lack it. Times are seconds since the epoch, sizes bytes, money USD.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.core.ids import InstanceId, Sha256, VolumeId
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.ledger import noted, settled  # noqa: F401 - their kinds are known wherever these are
from harness.ledger.kinds import JobEvent, JsonObject, stored


@stored("opened")
class Opened(JobEvent):
    """The job's configuration was read from ``file``: the first event of every log, and again after each change."""

    job: JsonObject
    file: str


@stored("adopted")
class Adopted(JobEvent):
    """An instance that no job had rented was taken over: stands in the place of everything up to ``Rented``.

    ``offer`` holds what the provider shows of it, ``label`` is empty for one without any, ``since`` its start time.
    """

    instance_id: InstanceId
    label: str
    owner: int | None
    usd_per_hour: float
    offer: JsonObject
    status: str
    since: float | None = None


@stored("stage")
class StageEntered(JobEvent):
    """A stage was begun, or gone on with after the job was held."""

    stage: Stage


@dataclass(frozen=True, slots=True)
class _Judgement(JobEvent):
    """Result of a stage's checks (JSON), and the facts file that it rests on.

    ``demand`` is the digest of everything that it was judged by: the job, the checks' files, the harness.
    """

    stage: Stage
    verdict: Verdict
    plan_digest: str
    result: JsonObject
    facts_path: str
    facts_sha256: str
    demand: str | None = None


@stored("gate")
class GateJudged(_Judgement):
    """A stage's gate was judged: PASS opens it, anything else shuts it."""


@stored("poll")
class Polled(_Judgement):
    """A stage was judged while it goes on; opens nothing."""


@stored("staged")
class Staged(JobEvent):
    """The package was snapshotted to ``path``; ``files``: digest of each, by its relative path."""

    path: str
    files: Mapping[str, Sha256]


@stored("plan_agreed")
class PlanAgreed(JobEvent):
    """Renting one of the ``offers`` shown, at no more than its prices, was agreed to; ``usd`` is the first one's.

    ``forecasts``: the parts that were foretold of each, in the offers' order; what comes of them is told in the report.
    """

    how: str
    offers: tuple[JsonObject, ...]
    usd: float
    budget_usd: float
    forecasts: tuple[JsonObject, ...] = ()


@stored("plan_refused")
class PlanRefused(JobEvent):
    """Nobody agreed to the plan that was shown, of about ``usd``: an agreement to an earlier one ends with that."""

    usd: float


@stored("rent_intended")
class RentIntended(JobEvent):
    """An instance is about to be asked for under ``label``; ``owner``: user id of the API key."""

    label: str
    offer: JsonObject
    owner: int | None


@stored("rent_failed")
class RentFailed(JobEvent):
    """No instance came of the rent that was intended under ``label``."""

    label: str
    why: str


@stored("rented")
class Rented(JobEvent):
    """The instance exists and bills, at the price of the offer that was agreed to."""

    instance_id: InstanceId
    label: str
    offer: JsonObject
    usd_per_hour: float
    owner: int | None


@stored("pinned")
class Pinned(JobEvent):
    """The SSH host keys that the box must show from here on, and how they became known."""

    keys: tuple[str, ...]
    how: str


@stored("resumes")
class Resumes(JobEvent):
    """The training goes on from mirrored checkpoints: step by trainer, and the digests of the files sent for it."""

    steps: Mapping[str, int]
    files: Mapping[str, Sha256]


@stored("uploaded")
class Uploaded(JobEvent):
    """The box's directory holds exactly the snapshot; ``files`` is how many there are."""

    files: int


@stored("installed")
class Installed(JobEvent):
    """The package's install command ended with an exit status."""

    status: int


@dataclass(frozen=True, slots=True)
class _Launch(JobEvent):
    """A training that was started on the box, and the reason."""

    command: tuple[str, ...]
    why: str


@stored("launched")
class Launched(_Launch):
    """The training was started for the first time."""


@stored("relaunched")
class Relaunched(_Launch):
    """The training was started again, after it had died or was stopped."""


@stored("mirrored")
class CheckpointMirrored(JobEvent):
    """A checkpoint was copied to this machine, whole."""

    trainer: str
    step: int


@stored("trained")
class Trained(JobEvent):
    """The training was seen to have ended well; ``at`` is when it ended by the box's account."""

    at: float


@stored("artifact")
class ArtifactRecorded(JobEvent):
    """The finished artifact's size and digest, as the box computed them.

    Of one that is several files: the folder, all bytes, the digest of their manifest, and its entries as ``files``.
    """

    path: str
    size: int
    sha256: Sha256
    files: tuple[JsonObject, ...] | None = None


@stored("fetched")
class Fetched(JobEvent):
    """The artifact is on this machine; ``bytes_per_s`` is None when nothing was left to come."""

    path: str
    size: int
    sha256: Sha256
    bytes_per_s: float | None


@stored("verified")
class Verified(JobEvent):
    """The fetched file has passed the postdownload gate."""

    path: str
    size: int
    sha256: Sha256


@stored("evaluation_begun")
class EvaluationBegun(JobEvent):
    """The package is asked to judge its model on the box; its time counts from here."""

    command: tuple[str, ...]


@stored("evaluated")
class Evaluated(JobEvent):
    """The package's judgement of its model is on this machine, a file with this digest; or why there is none."""

    problem: str | None
    sha256: Sha256 | None


@stored("released")
class Released(JobEvent):
    """The release statement was written to ``path``; ``sha256`` is the statement's."""

    path: str
    sha256: str


@stored("confirmed")
class Confirmed(JobEvent):
    """A person agreed to the destruction."""

    how: str
    instance_id: InstanceId


@stored("guarded")
class Guarded(JobEvent):
    """Every precondition of the destruction held at ``at``.

    ``release`` is the digest of the statement, ``sha256`` of the file on this machine; ``running`` are the processes
    left on the box, and ``remote`` says how the artifact there stands.
    """

    at: float
    instance_id: InstanceId
    label: str | None
    release: str | None
    sha256: Sha256
    running: tuple[str, ...]
    remote: str


@stored("destroy_intended")
class DestroyIntended(JobEvent):
    """The instance's destruction is about to be requested.

    ``volumes`` are mounted in it and stay; ``ran`` is False for an instance that never ran, of which no charge is
    expected.
    """

    instance_id: InstanceId
    release: str | None
    volumes: tuple[VolumeId, ...] = ()
    ran: bool | None = None


@stored("destroy_requested")
class DestroyRequested(JobEvent):
    """The provider was asked to destroy the instance, and answered."""

    instance_id: InstanceId
    reply: str


@stored("destroyed")
class Destroyed(JobEvent):
    """The instance is proven to be gone; ``billing`` proves that it bills no more, and may come in a later event.

    ``by`` says that it was not this job that destroyed it.
    """

    instance_id: InstanceId
    absence: JsonObject
    billing: JsonObject | None = None
    by: str | None = None


@stored("closed")
class Closed(JobEvent):
    """Every gate has opened: the job is over."""


@stored("held")
class Held(JobEvent):
    """A command ended before the job did: class and text of the error."""

    stage: Stage
    error: str
    reason: str


@stored("reopened")
class Reopened(JobEvent):
    """A gate that had opened is shut again: what it judged has changed."""

    stage: Stage
    why: str


@stored("training_stopped")
class TrainingStopped(JobEvent):
    """The training was ended on the box by this tool; None for a status that the box does not tell."""

    why: str
    exit_status: int | None


@stored("instance_stopped")
class InstanceStopped(JobEvent):
    """The instance was stopped: its GPUs are no longer billed, its disk is kept."""

    instance_id: InstanceId
    why: str


@stored("instance_started")
class InstanceStarted(JobEvent):
    """The stopped instance was started, and bills."""

    instance_id: InstanceId


@stored("budget_near")
class BudgetNear(JobEvent):
    """Most of the budget is spent, and the instance goes on."""

    spent_usd: float
    budget_usd: float


@stored("loss_accepted")
class LossAccepted(JobEvent):
    """A person typed the ``sentence`` that accepts the loss of ``value``, what was found on the instance."""

    instance_id: InstanceId
    sentence: str
    value: tuple[str, ...]


@stored("abandoned")
class Abandoned(JobEvent):
    """The instance was given up and is proven to be gone; the job begins anew. ``by`` as in ``Destroyed``."""

    instance_id: InstanceId
    absence: JsonObject
    billing: JsonObject | None = None
    by: str | None = None


@stored("lost")
class Lost(JobEvent):
    """The instance died and is proven to be gone; another may take its place.

    ``how`` a person agreed to that; ``machine_id`` of the dead one; ``package``: digest of what was staged on it.
    """

    instance_id: InstanceId
    how: str
    machine_id: int
    package: str | None
    absence: JsonObject
    billing: JsonObject | None = None
