"""Ports to the world, as Protocols; adapters and fakes pass the same contract tests.

Every method either answers what it saw or raises a HarnessError that says it could
not look. None of them turns "could not look" into an empty answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from harness.core import canonical
from harness.core.ids import InstanceId, OfferId, Sha256, VolumeId

if TYPE_CHECKING:
    from harness.core.questions import Answers, Question


class Clock(Protocol):
    """Time: real, or turned by a test."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds that never run backwards."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


@dataclass(frozen=True, slots=True)
class Account:
    """Account behind the API key, and the credit that is left (USD).

    ``at`` is the time by the provider's own clock when it answered (seconds since the epoch), where it tells it.
    """

    user_id: int
    credit_usd: float
    at: float | None = None


@dataclass(frozen=True, slots=True)
class OfferQuery:
    """A search in the market: ``num_gpus`` or more. ``H100`` in ``gpu_names`` stands for every kind of H100."""

    gpu_names: tuple[str, ...]
    num_gpus: int
    disk_gb: float
    max_usd_per_hour: float
    min_reliability: float = 0.0
    min_cuda: float = 0.0
    min_duration_s: float = 0.0
    min_inet_down_mbps: float = 0.0
    direct_port: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine that can be rented. Prices in USD; ``usd_per_hour`` is everything billed by the hour.

    ``disk_usd_per_hour`` is the part of it that the disk bills, also while the instance is stopped; None where the
    provider does not tell it. ``place`` is where it stands, in the provider's words; empty where it tells none.
    ``machine_id`` is 0 at a provider that sells kinds of machines, and names none of them; ``reliability`` and the
    line (``inet_*``) are 0 where it tells neither.
    """

    id: OfferId
    machine_id: int
    gpu_name: str
    num_gpus: int
    gpu_ram_mb: float
    usd_per_hour: float
    reliability: float
    cuda_max: float
    driver_version: str
    disk_gb: float
    duration_s: float
    direct_ports: int
    inet_down_mbps: float
    inet_up_mbps: float
    usd_per_gb_up: float = 0.0
    usd_per_gb_down: float = 0.0
    disk_usd_per_hour: float | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """Terms on which an offer is rented: on demand, cancelled when it cannot be scheduled.

    ``public_key`` will log in: some providers take it only now, at the others ``attach_key`` brings it.
    ``directory`` is where the job will work on the box: a provider of machines that are not deleted remembers it.
    """

    image: str
    disk_gb: float
    label: str
    public_key: str = ""
    directory: str = ""


class InstanceStatus(StrEnum):
    """An instance's state. ``UNKNOWN`` is a word of the provider's that its adapter does not know."""

    PROVISIONING = "provisioning"
    CREATED = "created"
    LOADING = "loading"
    RUNNING = "running"
    STOPPED = "stopped"
    FROZEN = "frozen"
    EXITED = "exited"
    REBOOTING = "rebooting"
    UNKNOWN = "unknown"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address where the box's SSH server may answer.

    ``user`` logs in there, where the provider and not the job file says so; ``jump`` are the hosts on the way, as
    ssh_config(5) has them in ``ProxyJump``.
    """

    host: str
    port: int
    route: Literal["direct", "proxy"] = "direct"
    user: str = ""
    jump: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """A rented machine as the provider describes it now. Times are seconds since the epoch.

    ``intended_status`` is what the account asked for last: ``running`` or ``stopped``.
    ``volumes`` are mounted in it; they bill apart and outlive it.
    ``failure`` is the provider's own word for why it will never run; None as long as it may.
    ``disk_usd_per_hour``: as of an offer.
    """

    id: InstanceId
    label: str | None
    status: InstanceStatus
    intended_status: str
    status_message: str
    machine_id: int
    gpu_name: str
    num_gpus: int
    usd_per_hour: float
    disk_gb: float
    endpoints: tuple[Endpoint, ...]
    started_at: float | None
    ends_at: float | None
    is_bid: bool
    volumes: tuple[VolumeId, ...] = ()
    failure: str | None = None
    disk_usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class PendingPrice:
    """A price that the host of an instance asks for, and that waits for the renter's answer. Seconds since the epoch.

    ``since``: from when on it is to be paid, None where the provider does not tell; ``until``: how long it then holds.
    """

    usd_per_hour: float
    since: float | None
    until: float | None


@dataclass(frozen=True, slots=True)
class Listing:
    """All instances of the account: complete, or it was not returned at all."""

    instances: tuple[Instance, ...]

    def ids(self) -> frozenset[InstanceId]:
        """The ids that are listed."""
        return frozenset(instance.id for instance in self.instances)


@dataclass(frozen=True, slots=True)
class Charge:
    """Amount billed for one instance over one span of time (USD)."""

    instance_id: InstanceId
    kind: str
    usd: float
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Volume:
    """Storage that bills until it is deleted, whatever becomes of the instances that use it.

    Size in GB, price in USD; None where the provider does not tell it. ``instances`` use it now.
    """

    id: VolumeId
    label: str | None
    machine_id: int
    size_gb: float
    usd_per_hour: float | None
    instances: tuple[InstanceId, ...] = ()


@dataclass(frozen=True, slots=True)
class Bill:
    """All that one contract was charged (USD). ``kind`` is ``instance``, ``volume`` or what else the provider sells.

    ``since`` and ``until``: the start of its first charge, None where that is not told, and the end of its last one
    (seconds since the epoch).
    """

    kind: str
    id: object
    label: str | None
    usd: float
    until: float
    since: float | None = None


class DestroyReply(StrEnum):
    """Reply of the provider to a destroy. Neither says that the instance is gone."""

    ACCEPTED = "accepted"
    NO_SUCH_INSTANCE = "no_such_instance"


@runtime_checkable
class BooksInSteps(Protocol):
    """A provider whose bill grows in steps: between two of them it shows nothing of what still bills."""

    @property
    def bills_every_s(self) -> float:
        """Seconds over which a bill must stay the same before that says anything."""


class Provider(Protocol):
    """A marketplace of rented machines. Every method raises ProviderUnavailable when it could not look."""

    @property
    def name(self) -> str:
        """The provider's name in events and releases: its kind."""

    @property
    def host_key_source(self) -> str:
        """Source that ``host_keys`` reads, for the event log: ``container log over the provider's TLS API``."""

    def account(self) -> Account:
        """The account behind the API key."""

    def gpu_names(self, asked: str) -> tuple[str, ...]:
        """The ``gpu_name`` of every offer that a person means by ``asked``; without asking the provider."""

    def search(self, query: OfferQuery) -> tuple[Offer, ...]:
        """Offers that fit, the cheapest first."""

    def create(self, offer: OfferId, request: CreateRequest) -> InstanceId:
        """Rent an offer, asking once, with whatever start script ``host_keys`` needs.

        Raises OfferGone, BadInput, or AmbiguousCreate when the reply was lost.
        """

    def instance(self, instance_id: InstanceId) -> Instance | None:
        """One instance; None only when the provider answered, well formed, that there is none."""

    def instances(self) -> Listing:
        """Every instance of the account; raises rather than return a listing that is not whole."""

    def pending_prices(self, instance_id: InstanceId) -> tuple[PendingPrice, ...]:
        """Prices that are announced for an instance; none at a provider that changes no price of what is rented."""

    def attach_key(self, instance_id: InstanceId, public_key: str) -> None:
        """Let an SSH public key log in."""

    def host_keys(self, instance_id: InstanceId, *, newest: bool = False) -> tuple[str, ...]:
        """The SSH host keys (``type base64``) that the provider shows over its own TLS; empty when it shows none.

        Those of the instance's first start, which nothing on the box can change later, or of its ``newest``.
        """

    def start(self, instance_id: InstanceId) -> None:
        """Start a stopped instance."""

    def stop(self, instance_id: InstanceId) -> None:
        """Stop it: GPU billing ends, the disk and everything on it stays."""

    def destroy(self, instance_id: InstanceId) -> DestroyReply:
        """Ask for the instance and its disk to be deleted. Only harness.guard calls this."""

    def charges(self, instance_id: InstanceId) -> tuple[Charge, ...]:
        """Charges for the instance so far."""

    def volumes(self) -> tuple[Volume, ...]:
        """Every volume of the account; raises rather than return a listing that is not whole."""

    def bills(self) -> tuple[Bill, ...]:
        """Bills of every contract of the account lately, gone ones too; whole, or it raises."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A command that ran to its end on the box: exit status and bounded output (bytes, undecoded)."""

    status: int
    stdout: bytes
    stderr: bytes


Json = canonical.Json


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the box whose size (bytes) and digest were recorded there. ``path`` may be relative to HOME."""

    path: str
    size: int
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of a transfer that are done, and in total."""

    done: int
    total: int


OnProgress = Callable[[Progress], None]


class Host(Protocol):
    """One rented box over SSH. Every method raises HostUnreachable when the box could not be asked."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float = 60.0,
        limit: int = 1 << 20,
        heard: Callable[[bytes], None] | None = None,
    ) -> RunResult:
        """Run one command over a live connection; each word is quoted for the remote shell. Output is cut at limit.

        ``heard`` is told its standard output as it comes; what it raises ends the waiting for the command.
        """

    def probe(self, questions: Sequence[Question[Any]], *, timeout: float = 120.0) -> Answers:
        """Ask all questions in one round trip, an equal one once.

        What could not be looked at or does not fit its type is Observed.problem, never an exception.
        """

    def fetch(self, remote: RemoteFile, destination: Path, on_progress: OnProgress | None = None) -> None:
        """Bring one file home, resumable, verified from the local disk, renamed into place last.

        Raises RemoteChanged, LocalDiskFull, TransferFailed. The file under ``destination`` is always whole.
        """

    def mirror(
        self, files: Mapping[str, str], destination: Path, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        """Bring files (relative path here -> path on the box) home as one directory, behind the box's other work.

        ``destination`` appears when all of them are verified; nothing is done when it is there already.
        Raises as ``fetch`` does, also once ``cancelled`` says so: what arrived is kept for the next call.
        """

    def send(
        self,
        source: Path,
        remote_dir: str,
        files: Mapping[str, Sha256],
        on_progress: OnProgress | None = None,
        *,
        elsewhere: Mapping[str, Path] | None = None,
        written: Sequence[str] = (),
    ) -> None:
        """Make ``remote_dir`` hold exactly ``files`` (relative POSIX path -> digest) of ``source``; verified there.

        What a training of the same package wrote there stays; that of another package is put aside, never
        deleted, and never while it runs: TransferFailed.
        ``elsewhere`` names those of the files that lie outside of ``source``; ``written`` are folders that the training
        writes to, beside those of the contract.
        """

    def close(self) -> None:
        """Close every connection."""
