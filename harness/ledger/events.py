"""Everything that can happen to a job, one class a kind, in the order of a good run; what may stand in its way follows.

Each event is a commit point: a process killed between two goes on from the last one written. It is stored under
``kind``, with one JSON key a field. A field without a default is always stored; one whose default is None only when
it is known, for older logs lack it. Times are seconds since the epoch, sizes bytes, money USD.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.core.ids import InstanceId, Sha256, VolumeId
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict

JsonObject = Mapping[str, Any]
"""A JSON object that is stored as it is given."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The job's configuration was read from ``file``: the first event of every log, and again after each change."""

    kind: ClassVar[str] = "opened"
    job: JsonObject
    file: str


@dataclass(frozen=True, slots=True)
class Adopted:
    """An instance that no job had rented was taken over: stands in the place of everything up to ``Rented``.

    ``offer`` holds what the provider shows of it, ``label`` is empty for one without any, ``since`` its start time.
    """

    kind: ClassVar[str] = "adopted"
    instance_id: InstanceId
    label: str
    owner: int | None
    usd_per_hour: float
    offer: JsonObject
    status: str
    since: float | None = None


@dataclass(frozen=True, slots=True)
class StageEntered:
    """A stage was begun, or gone on with after the job was held."""

    kind: ClassVar[str] = "stage"
    stage: Stage


@dataclass(frozen=True, slots=True)
class _Judgement:
    """Result of a stage's checks (JSON), and the facts file that it rests on."""

    stage: Stage
    verdict: Verdict
    plan_digest: str
    result: JsonObject
    facts_path: str
    facts_sha256: str


@dataclass(frozen=True, slots=True)
class GateJudged(_Judgement):
    """A stage's gate was judged: PASS opens it, anything else shuts it."""

    kind: ClassVar[str] = "gate"


@dataclass(frozen=True, slots=True)
class Polled(_Judgement):
    """A stage was judged while it goes on; opens nothing."""

    kind: ClassVar[str] = "poll"


@dataclass(frozen=True, slots=True)
class Staged:
    """The package was snapshotted to ``path``; ``files``: digest of each, by its relative path."""

    kind: ClassVar[str] = "staged"
    path: str
    files: Mapping[str, Sha256]


@dataclass(frozen=True, slots=True)
class RentIntended:
    """An instance is about to be asked for under ``label``; ``owner``: user id of the API key."""

    kind: ClassVar[str] = "rent_intended"
    label: str
    offer: JsonObject
    owner: int | None


@dataclass(frozen=True, slots=True)
class RentFailed:
    """No instance came of the rent that was intended under ``label``."""

    kind: ClassVar[str] = "rent_failed"
    label: str
    why: str


@dataclass(frozen=True, slots=True)
class Rented:
    """The instance exists and bills, at the price of the offer that was agreed to."""

    kind: ClassVar[str] = "rented"
    instance_id: InstanceId
    label: str
    offer: JsonObject
    usd_per_hour: float
    owner: int | None


@dataclass(frozen=True, slots=True)
class Pinned:
    """The SSH host keys that the box must show from here on, and how they became known."""

    kind: ClassVar[str] = "pinned"
    keys: tuple[str, ...]
    how: str


@dataclass(frozen=True, slots=True)
class Resumes:
    """The training goes on from mirrored checkpoints: step by trainer, and the digests of the files sent for it."""

    kind: ClassVar[str] = "resumes"
    steps: Mapping[str, int]
    files: Mapping[str, Sha256]


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The box's directory holds exactly the snapshot; ``files`` is how many there are."""

    kind: ClassVar[str] = "uploaded"
    files: int


@dataclass(frozen=True, slots=True)
class Installed:
    """The package's install command ended with an exit status."""

    kind: ClassVar[str] = "installed"
    status: int


@dataclass(frozen=True, slots=True)
class _Launch:
    """A training that was started on the box, and the reason."""

    command: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Launched(_Launch):
    """The training was started for the first time."""

    kind: ClassVar[str] = "launched"


@dataclass(frozen=True, slots=True)
class Relaunched(_Launch):
    """The training was started again, after it had died or was stopped."""

    kind: ClassVar[str] = "relaunched"


@dataclass(frozen=True, slots=True)
class CheckpointMirrored:
    """A checkpoint was copied to this machine, whole."""

    kind: ClassVar[str] = "mirrored"
    trainer: str
    step: int


@dataclass(frozen=True, slots=True)
class Trained:
    """The training was seen to have ended well; ``at`` is when it ended by the box's account."""

    kind: ClassVar[str] = "trained"
    at: float


@dataclass(frozen=True, slots=True)
class ArtifactRecorded:
    """The finished artifact's size and digest, as the box computed them."""

    kind: ClassVar[str] = "artifact"
    path: str
    size: int
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Fetched:
    """The artifact is on this machine; ``bytes_per_s`` is None when nothing was left to come."""

    kind: ClassVar[str] = "fetched"
    path: str
    size: int
    sha256: Sha256
    bytes_per_s: float | None


@dataclass(frozen=True, slots=True)
class Verified:
    """The fetched file has passed the postdownload gate."""

    kind: ClassVar[str] = "verified"
    path: str
    size: int
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Released:
    """The release statement was written to ``path``; ``sha256`` is the statement's."""

    kind: ClassVar[str] = "released"
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A person agreed to the destruction."""

    kind: ClassVar[str] = "confirmed"
    how: str
    instance_id: InstanceId


@dataclass(frozen=True, slots=True)
class Guarded:
    """Every precondition of the destruction held at ``at``.

    ``release`` is the digest of the statement, ``sha256`` of the file on this machine; ``running`` are the processes
    left on the box, and ``remote`` says how the artifact there stands.
    """

    kind: ClassVar[str] = "guarded"
    at: float
    instance_id: InstanceId
    label: str | None
    release: str | None
    sha256: Sha256
    running: tuple[str, ...]
    remote: str


@dataclass(frozen=True, slots=True)
class DestroyIntended:
    """The instance's destruction is about to be requested.

    ``volumes`` are mounted in it and stay; ``ran`` is False for an instance that never ran, of which no charge is
    expected.
    """

    kind: ClassVar[str] = "destroy_intended"
    instance_id: InstanceId
    release: str | None
    volumes: tuple[VolumeId, ...] = ()
    ran: bool | None = None


@dataclass(frozen=True, slots=True)
class DestroyRequested:
    """The provider was asked to destroy the instance, and answered."""

    kind: ClassVar[str] = "destroy_requested"
    instance_id: InstanceId
    reply: str


@dataclass(frozen=True, slots=True)
class Destroyed:
    """The instance is proven to be gone; ``billing`` proves that it bills no more, and may come in a later event."""

    kind: ClassVar[str] = "destroyed"
    instance_id: InstanceId
    absence: JsonObject
    billing: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """Every gate has opened: the job is over."""

    kind: ClassVar[str] = "closed"


@dataclass(frozen=True, slots=True)
class Held:
    """A command ended before the job did: class and text of the error."""

    kind: ClassVar[str] = "held"
    stage: Stage
    error: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reopened:
    """A gate that had opened is shut again: what it judged has changed."""

    kind: ClassVar[str] = "reopened"
    stage: Stage
    why: str


@dataclass(frozen=True, slots=True)
class TrainingStopped:
    """The training was ended on the box by this tool; None for a status that the box does not tell."""

    kind: ClassVar[str] = "training_stopped"
    why: str
    exit_status: int | None


@dataclass(frozen=True, slots=True)
class InstanceStopped:
    """The instance was stopped: its GPUs are no longer billed, its disk is kept."""

    kind: ClassVar[str] = "instance_stopped"
    instance_id: InstanceId
    why: str


@dataclass(frozen=True, slots=True)
class InstanceStarted:
    """The stopped instance was started, and bills."""

    kind: ClassVar[str] = "instance_started"
    instance_id: InstanceId


@dataclass(frozen=True, slots=True)
class LossAccepted:
    """A person typed the ``sentence`` that accepts the loss of ``value``, what was found on the instance."""

    kind: ClassVar[str] = "loss_accepted"
    instance_id: InstanceId
    sentence: str
    value: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The instance was given up and is proven to be gone; the job begins anew."""

    kind: ClassVar[str] = "abandoned"
    instance_id: InstanceId
    absence: JsonObject
    billing: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """The instance died and is proven to be gone; another may take its place.

    ``how`` a person agreed to that; ``machine_id`` of the dead one; ``package``: digest of what was staged on it.
    """

    kind: ClassVar[str] = "lost"
    instance_id: InstanceId
    how: str
    machine_id: int
    package: str | None
    absence: JsonObject
    billing: JsonObject | None = None


# fmt: off
JobEvent = (
    Opened | Adopted | StageEntered | GateJudged | Polled | Staged | RentIntended | RentFailed | Rented | Pinned
    | Resumes | Uploaded | Installed | Launched | Relaunched | CheckpointMirrored | Trained | ArtifactRecorded
    | Fetched | Verified | Released | Confirmed | Guarded | DestroyIntended | DestroyRequested | Destroyed
    | Closed | Held | Reopened | TrainingStopped | InstanceStopped | InstanceStarted | LossAccepted | Abandoned
    | Lost
)
# fmt: on
"""Any of them."""
