"""A ``ports.Provider`` of one machine. An offer is the machine while nobody has claimed it; an instance is its claim.

Stopping and starting do nothing: no time of it is billed, and what runs there is its owner's to end.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.artifacts import digest
from harness.core import environment
from harness.core.errors import (
    AmbiguousCreate,
    BadInput,
    HarnessError,
    HostKeyChanged,
    HostUnreachable,
    OfferGone,
    ProviderUnavailable,
    Refused,
)
from harness.core.gpu_names import same_model
from harness.core.ids import InstanceId, OfferId
from harness.core.observed import CouldNotLook, Observed
from harness.core.ports import (
    Account,
    Bill,
    Charge,
    Clock,
    CreateRequest,
    DestroyReply,
    Endpoint,
    Instance,
    InstanceStatus,
    Listing,
    Offer,
    OfferQuery,
    PendingPrice,
    Volume,
)
from harness.core.questions import Command, DiskOf, GpuList, ProcessesUnder, SessionOf
from harness.core.text import command_line, printable
from harness.providers.ssh.on_box import CLAIM
from harness.providers.ssh.settings import SshSettings
from harness.remote.acting import act
from harness.remote.host import SshHost
from harness.remote.probe.typed import typed
from harness.remote.ssh.connection import Login
from harness.remote.ssh.keys import public_key
from harness.remote.ssh.own_keys import OwnKeys, known_name

T = TypeVar("T")

NO_GPU = "CPU"
"""Name that a job asks for as its GPU to rehearse on a machine that has none."""
_ON_BOX = ("harness.providers.ssh.on_box",)
_PATIENCE_S = 10.0
_ACT_S = 60.0
_TEARDOWN_S = 600.0
_NOT_A_FILE_NAME = re.compile(r"[^A-Za-z0-9.-]")


@dataclass(frozen=True, slots=True)
class BoxClaim:
    """A claim as it stands on the box; ``since`` by the box's own clock, seconds since the epoch."""

    label: str
    since: float
    directory: str = ""
    gpu_name: str = NO_GPU
    num_gpus: int = 1
    disk_gb: float = 0.0

    @property
    def instance_id(self) -> InstanceId:
        """Number of the claim, told by its label: the same wherever it is read."""
        return InstanceId(_number(self.label))


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the box: the machine, who we are there, its clock, and who has claimed it."""

    machine: str
    uid: int
    user: str
    now: float
    claim: BoxClaim | None


class SshProvider:
    """The one machine of a job."""

    name = "ssh"

    def __init__(self, settings: SshSettings, home: Path, clock: Clock) -> None:
        self._told = settings
        self._own = OwnKeys(environment.user_home() / ".ssh", _whole(settings.key), settings.host)
        self._key_file = home / "ssh" / "id_ed25519"
        self._first_use = home / "hosts" / _NOT_A_FILE_NAME.sub("_", f"{settings.host}-{settings.port or ''}")
        self._clock = clock
        self._host: SshHost | None = None
        self._offered: Offer | None = None

    @property
    def host_key_source(self) -> str:
        """Place from which the host keys are known: none of them is the box itself, but at the first use."""
        if self._told.host_key:
            return "the job file"
        return (
            "known_hosts of this user"
            if self._own.known([self._endpoint()])
            else f"first use, kept in {self._first_use}"
        )

    def account(self) -> Account:
        """The login on the machine, as a number; nothing is paid, and so there is no credit."""
        seen = self._look()
        return Account(_number(f"{seen.machine} {seen.uid}"), 0.0, seen.now)

    def gpu_names(self, asked: str) -> tuple[str, ...]:
        """The name as it was asked for: the machine's own GPUs are compared with it."""
        return (asked,)

    def search(self, query: OfferQuery) -> tuple[Offer, ...]:
        """The machine, where it has what is asked for; raises OfferGone where somebody has claimed it.

        A machine of one's own has neither price nor term, and nobody measures its line.
        """
        seen = self._look()
        if seen.claim is not None:
            raise _claimed(seen.claim)
        gpus, disk = GpuList(), DiskOf(".")
        answers = self._asking(lambda host: host.probe([gpus, disk]))
        shown, free = _got(answers[gpus]), _got(answers[disk])
        for name in query.gpu_names:
            fitting = [gpu for gpu in shown.gpus if same_model(name, gpu.name)]
            number = query.num_gpus if name.upper() == NO_GPU else len(fitting)
            if number >= query.num_gpus and free.free >= query.disk_gb * 1e9:
                self._offered = _offer(seen, name, number, fitting, free.free)
                return (self._offered,)
        return ()

    def create(self, offer: OfferId, request: CreateRequest) -> InstanceId:
        """Claim the machine; raises OfferGone where it is another machine, or somebody else's by now."""
        seen, offered = self._look(), self._offered
        if offered is None or not offer == offered.id == _number(seen.machine):
            raise OfferGone(f"{self._where()} is not the machine that was offered")
        terms = {
            "label": request.label,
            "directory": request.directory,
            "gpu_name": offered.gpu_name,
            "num_gpus": offered.num_gpus,
            "disk_gb": request.disk_gb,
        }
        try:
            holds = _typed(self._act("claim", terms=terms), BoxClaim)
        except ProviderUnavailable as error:
            raise AmbiguousCreate(f"{error}; it may be claimed as {request.label}") from error
        if holds.label != request.label:
            raise _claimed(holds)
        return holds.instance_id

    def instance(self, instance_id: InstanceId) -> Instance | None:
        """The claim of this number; None where the box answers that it has no such one."""
        claim = self._look().claim
        return self._instance(claim) if claim is not None and claim.instance_id == instance_id else None

    def instances(self) -> Listing:
        """The claim, whosever it is."""
        claim = self._look().claim
        return Listing((self._instance(claim),) if claim is not None else ())

    def pending_prices(self, instance_id: InstanceId) -> tuple[PendingPrice, ...]:
        """None: a machine of one's own has no price."""
        self._claim(instance_id)
        return ()

    def attach_key(self, instance_id: InstanceId, public_key: str) -> None:
        """Let a key in beside the operator's own, by whose login it is written."""
        self._claim(instance_id)
        self._act("admit", key=public_key)

    def host_keys(self, instance_id: InstanceId, *, newest: bool = False) -> tuple[str, ...]:
        """Keys that the machine must show: the job file's, those of ``known_hosts``, or the first that it showed."""
        del newest  # no start of it gives it others
        self._claim(instance_id)
        return self._login().pinning().known()

    def start(self, instance_id: InstanceId) -> None:
        """Look that the claim stands; the machine runs or it does not."""
        self._claim(instance_id)

    def stop(self, instance_id: InstanceId) -> None:
        """Look that the claim stands; nothing is stopped, for nothing is billed."""
        self._claim(instance_id)

    def destroy(self, instance_id: InstanceId) -> DestroyReply:
        """Give the machine back: its claim goes, last of all, and the machine stays.

        Raises Refused, the claim kept, where something of the job still runs or the teardown command fails.
        """
        claim = self._look().claim
        if claim is None or claim.instance_id != instance_id:
            return DestroyReply.NO_SUCH_INSTANCE
        self._require_quiet(claim)
        self._tear_down()
        key = public_key(self._key_file) if self._key_file.exists() else ""
        self._act("release", label=claim.label, key=key, clean=self._told.clean)
        return DestroyReply.ACCEPTED

    def charges(self, instance_id: InstanceId) -> tuple[Charge, ...]:
        """None; the box is asked all the same, so that no silence is taken for an answer."""
        del instance_id
        self._look()
        return ()

    def volumes(self) -> tuple[Volume, ...]:
        """None."""
        return ()

    def bills(self) -> tuple[Bill, ...]:
        """None, as of ``charges``."""
        self._look()
        return ()

    def close(self) -> None:
        """Close the connection; it is made again when next needed."""
        if self._host is not None:
            self._host.close()
            self._host = None

    # ---

    def _require_quiet(self, claim: BoxClaim) -> None:
        """Raise Refused for a session or a process of the job that still runs."""
        if not claim.directory:
            return
        under, session = ProcessesUnder(claim.directory), SessionOf(claim.directory)
        answers = self._asking(lambda host: host.probe([under, session]))
        running = [*_got(answers[under]).at_work()]
        if _got(answers[session]).alive and not running:
            running = ["the training's session"]
        if running:
            raise Refused(
                f"something of this job still runs on {self._where()}: {'; '.join(running[:5])}; the machine is not "
                "given back",
                remedy="It is your machine: nothing is ended there behind your back. Wait for it or end it "
                "(harness ssh JOB), and run the same command again.",
            )

    def _tear_down(self) -> None:
        words = self._told.teardown_command
        if not words:
            return
        command = Command(words, timeout=_TEARDOWN_S)
        ran = _got(self._asking(lambda host: host.probe([command], timeout=_TEARDOWN_S + _ACT_S))[command])
        if ran.status != 0:
            said = printable(" ".join((ran.err or ran.out).split())[-300:], 300)
            raise Refused(
                f"provider.teardown_command ({command_line(words)}) ended with {ran.status} on {self._where()}: {said}",
                remedy="Mend it, there or in the job file, and run the same command again: until then the machine is "
                "not given back.",
            )

    def _claim(self, instance_id: InstanceId) -> BoxClaim:
        claim = self._look().claim
        if claim is None or claim.instance_id != instance_id:
            raise ProviderUnavailable(f"{self._where()} has no claim {instance_id}")
        return claim

    def _instance(self, claim: BoxClaim) -> Instance:
        return Instance(
            id=claim.instance_id,
            label=claim.label,
            status=InstanceStatus.RUNNING,
            intended_status="running",
            status_message=f"claimed on {self._where()}; not billed",
            machine_id=0,
            gpu_name=claim.gpu_name,
            num_gpus=claim.num_gpus,
            usd_per_hour=0.0,
            disk_gb=claim.disk_gb,
            endpoints=(self._endpoint(),),
            started_at=claim.since,
            ends_at=None,
            is_bid=False,
            disk_usd_per_hour=0.0,
        )

    def _look(self) -> Seen:
        return _typed(self._act("look at"), Seen)

    def _act(self, verb: str, **args: Any) -> Any:
        return self._asking(lambda host: act(host, _ON_BOX, verb, args, of="the box's claim", timeout=_ACT_S))

    def _asking(self, ask: Callable[[SshHost], T]) -> T:
        """An answer of the box; raises ProviderUnavailable for whatever is none."""
        if self._host is None:
            self._host = SshHost(self._login(), self._clock, patience=_PATIENCE_S)
        try:
            return ask(self._host)
        except ProviderUnavailable:
            raise
        except HostKeyChanged as error:
            forget = f"delete {self._first_use}"
            if self._told.host_key:
                forget = "correct provider.host_key in the job file"
            elif self._own.known([self._endpoint()]):
                forget = f"ssh-keygen -R '{known_name(self._endpoint())}'"
            raise ProviderUnavailable(
                str(error), remedy=f"It may be another machine. When you know that it is yours: {forget}"
            ) from error
        except (HostUnreachable, BadInput) as error:
            remedy = getattr(error, "remedy", "") if isinstance(error, BadInput) else _LOG_IN.format(self._told.host)
            raise ProviderUnavailable(f"{self._where()} could not be asked: {error}", remedy=remedy) from error
        except HarnessError as error:
            raise ProviderUnavailable(str(error)) from error

    def _login(self) -> Login:
        """Login with the operator's own keys, as ssh itself would; the harness's own is the last."""
        endpoint = self._endpoint()
        known = self._told.host_key or self._own.known([endpoint])
        return Login(endpoint.user, (endpoint,), self._key_file, tuple(known), self._first_use, self._own)

    def _endpoint(self) -> Endpoint:
        settings, told = self._own.settings(self._told.host), self._told
        return Endpoint(
            host=str(settings.get("hostname", told.host)),
            port=told.port or int(settings.get("port", 22)),
            user=told.user or settings.get("user") or getpass.getuser(),
            jump=str(settings.get("proxyjump", "")),
        )

    def _where(self) -> str:
        return printable(self._told.host, 100)


_LOG_IN = "Look whether ssh {} lets you in, then run the same command again."


def _claimed(claim: BoxClaim) -> OfferGone:
    return OfferGone(
        f"the machine is claimed by {printable(claim.label, 100)} (instance {claim.instance_id})",
        remedy="If that job is yours and lives, let it end. If it is dead: harness abandon JOB where it was run; where "
        f"its log is lost, look what still runs on the machine, then delete {CLAIM} in the home there.",
    )


def _offer(seen: Seen, name: str, number: int, fitting: list[Any], free: int) -> Offer:
    return Offer(
        id=OfferId(_number(seen.machine)),
        machine_id=_number(seen.machine),
        gpu_name=name,
        num_gpus=number,
        gpu_ram_mb=float(fitting[0].memory_total_mib or 0.0) if fitting else 0.0,
        usd_per_hour=0.0,
        reliability=0.0,
        cuda_max=0.0,
        driver_version=fitting[0].driver if fitting else "",
        disk_gb=free / 1e9,
        duration_s=0.0,
        direct_ports=0,
        inet_down_mbps=0.0,
        inet_up_mbps=0.0,
        disk_usd_per_hour=0.0,
        place="your own machine",
    )


def _number(text: str) -> int:
    """A number of 48 bits, never 0, which a text always comes to."""
    return int(digest.of_bytes(text.encode())[:12], 16) or 1


def _whole(key: Path | None) -> Path | None:
    return None if key is None else key.expanduser()


def _got(answer: Observed[T]) -> T:
    """The answer to one question; raises ProviderUnavailable where the box had none."""
    try:
        return answer.get()
    except CouldNotLook as error:
        raise ProviderUnavailable(f"the box could not be looked at: {error}") from error


def _typed(answer: Any, kind: type[T]) -> T:
    seen = typed(answer, kind)
    if seen.value is None:
        raise ProviderUnavailable(f"the box answers oddly about its claim: {seen.problem}")
    return seen.value
