"""A marketplace with one kind of machine, and the box behind it: real files, a training that is only words."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.core import durable
from harness.core.errors import (
    HostKeyChanged,
    HostUnreachable,
    OfferGone,
    ProviderUnavailable,
    RemoteChanged,
    TransferFailed,
)
from harness.core.ids import InstanceId, OfferId, Sha256
from harness.core.observed import Observed
from harness.core.ports import (
    Account,
    Bill,
    Charge,
    CreateRequest,
    DestroyReply,
    Endpoint,
    Instance,
    InstanceStatus,
    Listing,
    Offer,
    OfferQuery,
    OnProgress,
    PendingPrice,
    Progress,
    RemoteFile,
    RunResult,
    Volume,
)
from harness.core.questions import (
    Answers,
    Command,
    GpuList,
    Now,
    PackagesOf,
    ProcessesUnder,
    Question,
    SessionOf,
    TailOf,
)
from harness.providers import host_keys
from harness.remote.box import excerpt as box_excerpt
from harness.remote.box import files as box_files
from harness.remote.box import training as box_training
from harness.remote.probe.probe import read
from tests.support.fake_clock import FakeClock

USER = 7
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBoxKeyBoxKeyBoxKeyBoxKeyBoxKey"
MODEL = b"GGUF" + bytes(range(256)) * 64
_OPERATIONS: dict[str, Any] = {**vars(box_files), **vars(box_training), **vars(box_excerpt)}
_REQUEST = re.compile(rb"main\(json\.loads\((.*)\)\)\s*\Z", re.DOTALL)


def offer(number: int = 501) -> Offer:
    """Eight H100."""
    return Offer(OfferId(number), 12, "H100 SXM", 8, 81_559.0, 15.9, 0.995, 12.8, "570.86.15", 2000, 2e6, 42, 6e3, 4e3)


@dataclass(slots=True)
class Market:
    """A ``ports.Provider`` in memory. ``lag`` is how many looks a destroyed instance goes on showing."""

    clock: FakeClock
    offers: list[Offer] = field(default_factory=lambda: [offer(501), offer(502)])
    rented: dict[InstanceId, Instance] = field(default_factory=dict)
    stored: list[Volume] = field(default_factory=list)
    pending: dict[InstanceId, tuple[PendingPrice, ...]] = field(default_factory=dict)
    log: str = f"boot\n-----BEGIN SSH HOST KEY KEYS-----\n{HOST_KEY} box\n-----END SSH HOST KEY KEYS-----\n"
    user: int = USER
    lag: int = 0
    usd: float = 1.0
    name: str = "scripted"
    host_key_source: str = "container log over the provider's TLS API"
    created: int = 0
    _going: set[InstanceId] = field(default_factory=set)

    def account(self) -> Account:
        return Account(self.user, 100.0, self.clock.true())

    def gpu_names(self, asked: str) -> tuple[str, ...]:
        return tuple(one.gpu_name for one in self.offers if one.gpu_name.startswith(asked))

    def search(self, query: OfferQuery) -> tuple[Offer, ...]:
        return tuple(one for one in self.offers if one.usd_per_hour <= query.max_usd_per_hour)

    def create(self, offer: OfferId, request: CreateRequest) -> InstanceId:
        taken = next((one for one in self.offers if one.id == offer), None)
        if taken is None:
            raise OfferGone(f"offer {offer} is gone")
        self.offers.remove(taken)
        self.created += 1
        return self.add(4710 + self.created, request.label)

    def add(self, number: object, label: str | None, status: InstanceStatus = InstanceStatus.RUNNING) -> InstanceId:
        """One more instance, whoever rented it."""
        instance_id = InstanceId(number)
        self.rented[instance_id] = Instance(
            id=instance_id,
            label=label,
            status=status,
            intended_status="running",
            status_message="",
            machine_id=12,
            gpu_name="H100 SXM",
            num_gpus=8,
            usd_per_hour=15.9,
            disk_gb=150,
            endpoints=(Endpoint("192.0.2.1", 22),),
            started_at=self.clock.true(),
            ends_at=None,
            is_bid=False,
        )
        return instance_id

    def change(self, instance_id: InstanceId, **fields: Any) -> None:
        """Something happens to an instance."""
        self.rented[instance_id] = dataclasses.replace(self.rented[instance_id], **fields)

    def instance(self, instance_id: InstanceId) -> Instance | None:
        if instance_id in self._going:
            self.lag -= 1
            if self.lag < 0:
                self._going.discard(instance_id)
                del self.rented[instance_id]
        return self.rented.get(instance_id)

    def instances(self) -> Listing:
        return Listing(tuple(self.rented.values()))

    def pending_prices(self, instance_id: InstanceId) -> tuple[PendingPrice, ...]:
        return self.pending.get(instance_id, ())

    def attach_key(self, instance_id: InstanceId, public_key: str) -> None:
        del instance_id, public_key

    def host_keys(self, instance_id: InstanceId, *, newest: bool = False) -> tuple[str, ...]:
        del instance_id
        return host_keys.read(self.log, newest=newest)

    def start(self, instance_id: InstanceId) -> None:
        self._wish(instance_id, InstanceStatus.RUNNING)

    def stop(self, instance_id: InstanceId) -> None:
        self._wish(instance_id, InstanceStatus.STOPPED)

    def _wish(self, instance_id: InstanceId, status: InstanceStatus) -> None:
        """A host that is offline does not hear of it."""
        if instance_id not in self.rented:
            raise ProviderUnavailable(f"404 no_such_instance {instance_id}")
        heard = self.rented[instance_id].status is not InstanceStatus.OFFLINE
        self.change(instance_id, intended_status=status.value, **({"status": status} if heard else {}))

    def destroy(self, instance_id: InstanceId) -> DestroyReply:
        if instance_id not in self.rented:
            return DestroyReply.NO_SUCH_INSTANCE
        if self.lag > 0:
            self._going.add(instance_id)
        else:
            del self.rented[instance_id]
        return DestroyReply.ACCEPTED

    def charges(self, instance_id: InstanceId) -> tuple[Charge, ...]:
        return (Charge(instance_id, "gpu", self.usd, 0.0, 1.0),)

    def volumes(self) -> tuple[Volume, ...]:
        return tuple(self.stored)

    def bills(self) -> tuple[Bill, ...]:
        return tuple(Bill("instance", one, self.rented[one].label, self.usd, 1.0) for one in self.rented)


@dataclass(slots=True)
class Box:
    """The rented machine: ``root`` is the package's directory. A training says its words and ends when looked at.

    ``takes``: how many looks a training takes. ``deaths``: how many attempts die first. ``hangs``: how many then
    say nothing any more. ``transfer_s``: seconds that a file or the package is on its way; ``command_s``: that a
    command runs. ``says`` is what a command that is listened to prints, as it comes. ``leaves`` are the files that a
    training leaves in the place of one GGUF: their bytes by their path in the package's directory.
    """

    root: Path
    clock: FakeClock
    deaths: int = 0
    takes: int = 2
    hangs: int = 0
    started: bool = False
    alive: bool = False
    exit_status: int | None = None
    attempts: int = 0
    stops: int = 0
    looks: int = 0
    host_key: str = HOST_KEY
    says: tuple[bytes, ...] = ()
    reachable: Callable[[], bool] = lambda: True
    processes: list[dict[str, Any]] = field(default_factory=list)
    on_fetch: Callable[[RemoteFile], None] = lambda _: None
    on_command: Callable[[Command], dict[str, Any]] = lambda _: {"status": 0, "out": "", "err": ""}
    spoken_at: float = 0.0
    ended_s: float = 0.0
    transfer_s: float = 0.0
    command_s: float = 0.0
    leaves: dict[str, bytes] = field(default_factory=dict)
    ahead_s: dict[str, float] = field(default_factory=dict)
    """Seconds that what is begun before the package is there takes, by name: ``install``, ``base``."""
    ahead_status: int = 0
    ahead: dict[str, float] = field(default_factory=dict)
    """Time at which each of those ends or ended."""
    begun: Counter[str] = field(default_factory=Counter)
    on_prove: Callable[[Mapping[str, str]], int | None] = lambda _: 127
    """What the package's proving command does with its options; its exit status, None when it never ends."""
    launched: list[dict[str, Any]] = field(default_factory=list)
    """Command and variables of each start of the training."""
    statuses: dict[str, int | None] = field(default_factory=dict)
    """Exit status of each of those, where it is not ``ahead_status``."""
    commands: list[str] = field(default_factory=list)
    had: dict[str, str] = field(default_factory=dict)
    """Versions of the packages that the image brings."""
    switch: dict[str, Any] | None = None
    """Number and secret of the key that its switch has; the silence."""
    armed: int = 0
    trial: Any = 403
    """What comes of the trial of a key."""
    said: dict[str, Any] | None = None
    """Last stop that the switch has asked for."""

    @property
    def artifact(self) -> Path:
        """Where the training leaves its model."""
        return self.root / "models" / "output" / "final" / "model.Q8_0.gguf"

    def start(self) -> dict[str, Any]:
        """Launch the training, unless it runs or has ended well."""
        fresh = not self.alive and self.exit_status != 0
        if fresh:
            self.started, self.alive, self.exit_status, self.looks = True, True, None, 0
            self.attempts += 1
            self.say("V2 FOREX INTEGRATION: 15300 SFT + 2550 DPO samples from YOUR data")
            self.say(
                "PLAN sft_steps=330 dpo_steps=80 batch_size=32 checkpoint_every=100 lora_r=64 lora_alpha=128 "
                "dtype=bfloat16 world_size=1 device_map=auto devices=cuda:0"
            )
            self.say("[sft] EPOCHS 2.76078 rows=15300 rows_a_step=128")
            self.say("[dpo] EPOCHS 1.00392 rows=2550 rows_a_step=32")
            self.say("[sft] step 1/330 (0%) loss=2.5 lr=0.0001 s/step=4.4")
        return {**self.state(), "fresh": fresh}

    def start_ahead(self, name: str, argv: Sequence[str] = ()) -> dict[str, Any]:
        """Begin what needs no package, or proves a strategy, unless it runs or has ended well."""
        before = self.state_ahead(name)
        fresh = not before["alive"] and before["exit_status"] != 0
        if fresh:
            self.begun[name.partition("-")[0]] += 1
            self.ahead[name] = self.clock.monotonic() + self.ahead_s.get(name, 0.0)
            if name.startswith("prove-"):
                status = self.on_prove(dict(pairwise(argv)))
                self.ahead[name] += math.inf if status is None else 0.0
                self.statuses[name] = status
        return {**self.state_ahead(name), "fresh": fresh}

    def state_ahead(self, name: str) -> dict[str, Any]:
        """What the probe says of its session."""
        started, alive = name in self.ahead, self.ahead.get(name, 0.0) > self.clock.monotonic()
        status = self.statuses.get(name, self.ahead_status) if started and not alive else None
        told = {"started": started, "alive": alive, "pid": 200 if started else None, "exit_status": status}
        return {**told, "ended_s": None if status is None else 0.0}

    def stop_ahead(self, name: str) -> dict[str, Any]:
        """End it."""
        self.ahead.pop(name, None)
        return self.state_ahead(name)

    def arm(self, key_id: int, after_s: float, key: str | None = None, **_: Any) -> dict[str, Any]:
        """Arm the switch, as the box's program does."""
        said = self.said
        if said and "at" in said:
            said = {"ago_s": self.clock.now() - said["at"], **said}
        told = {"armed": True, "came": None, "said": said}
        if key is None and (self.switch is None or self.switch["key_id"] != key_id):
            return {**told, "armed": False}
        if key is not None and self.trial not in {401, 403}:
            return {**told, "armed": False, "came": self.trial}
        key = key or (self.switch or {})["key"]
        self.switch, self.armed = {"key_id": key_id, "key": key, "after_s": after_s}, self.armed + 1
        return told

    def disarm(self, directory: str) -> dict[str, Any]:
        """Take it off."""
        del directory
        self.switch = None
        return {}

    def stop(self) -> dict[str, Any]:
        """End the training."""
        self.stops += 1
        if self.alive:
            self.alive, self.exit_status = False, 143
        return self.state()

    def say(self, line: str) -> None:
        """One line of the training's log."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "training.log").open("a") as log:
            log.write(line + "\n")
        self.spoken_at = self.clock.now()

    def state(self) -> dict[str, Any]:
        """What the probe says of the session."""
        pid = 100 if self.started else None
        status = None if self.alive else self.exit_status
        ended = None if status is None else self.ended_s
        told = {"started": self.started, "alive": self.alive, "pid": pid, "exit_status": status}
        return {**told, "ended_s": ended}

    def look(self) -> dict[str, Any]:
        """A look at the session; time goes on for the training."""
        self.looks += 1
        if self.alive and self.looks > self.takes:
            if self.attempts <= self.deaths:
                self.alive, self.exit_status = False, 1
            elif self.attempts > self.deaths + self.hangs:
                self.finish()
        return self.state()

    def finish(self) -> None:
        """The training ends well."""
        adapter = "models/output/adapter/adapter_config.json"
        usual = {self.artifact.relative_to(self.root).as_posix(): MODEL}
        for name, data in {adapter: b"{}", "run.json": b"{}", **(self.leaves or usual)}.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_bytes(data)
        self.say("TRAINING COMPLETE")
        self.list_outputs()
        self.alive, self.exit_status = False, 0

    def list_outputs(self) -> None:
        """The training writes its manifest, by what lies there."""
        files = [path for path in sorted((self.root / "models").rglob("*")) if path.is_file()]
        told = [
            {"path": (name := path.relative_to(self.root).as_posix()), "kind": _kind(name), **_hashed(path)}
            for path in (*files, self.root / "run.json")
        ]
        (self.root / "MANIFEST.json").write_text(json.dumps({"contract": 1, "steps": {}, "files": told}))


def _kind(name: str) -> str:
    if name == "run.json":
        return "run"
    return "adapter" if "/adapter/" in name else "gguf" if name.endswith(".gguf") else "model"


def proving(box: Box, status: int | None = 0, **changes: Any) -> Callable[[Mapping[str, str]], int | None]:
    """A proving command that leaves a good proof on the box, but for these changes, and ends with the status."""

    def prove(options: Mapping[str, str]) -> int | None:
        count = int(options["--ranks"])
        proof = {
            "strategy": options["--strategy"],
            "ranks": count,
            "of": options["--of"],
            "proven": True,
            "problems": {},
            "speedup": 6.4,
            "versions": {"torch": "2.13.0"},
            "gpus": [f"H100 {number}" for number in range(count)],
        }
        path = box.root / options["--out"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(proof | changes), encoding="utf-8")
        return status

    return prove


def _ahead(directory: str) -> str | None:
    """Name of what is begun before the package is there, by its session's directory; None for the training's."""
    return Path(directory).name if Path(directory).parent.name == "ahead" else None


def _hashed(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@dataclass(slots=True)
class BoxHost:
    """A ``ports.Host``: a connection to the box, which shows its key at every use."""

    box: Box
    pins: tuple[str, ...]

    def _reach(self) -> None:
        if not self.box.reachable():
            raise HostUnreachable("the box does not answer")
        if self.pins and self.box.host_key not in self.pins:
            raise HostKeyChanged(f"the box shows {self.box.host_key}")

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float = 60.0,
        limit: int = 1 << 20,
        heard: Callable[[bytes], None] | None = None,
    ) -> RunResult:
        del limit
        if heard is not None:
            for said in self.box.says:
                heard(said)
        self._reach()
        self.box.clock.turn(min(self.box.command_s, timeout))
        if self.box.command_s > timeout:
            raise HostUnreachable(f"a command did not end: {timeout:.0f} s passed")
        asked = _REQUEST.search(stdin)
        if asked is None:
            self.box.commands.append(" ".join(argv[5:]))
            return RunResult(0, " ".join(argv).encode(), b"")
        request = json.loads(ast.literal_eval(asked.group(1).decode()))
        if request["verb"] in {"arm", "disarm"}:
            answer = (self.box.arm if request["verb"] == "arm" else self.box.disarm)(**request["args"])
            return RunResult(0, (request["marker"] + json.dumps({"value": answer})).encode(), b"")
        name, begins = _ahead(request["args"]["directory"]), request["verb"] == "start"
        if name is not None:
            answer = self.box.start_ahead(name, request["args"]["argv"]) if begins else self.box.stop_ahead(name)
        else:
            self.box.launched += [request["args"]] if begins else []
            answer = self.box.start() if begins else self.box.stop()
        return RunResult(0, (request["marker"] + json.dumps({"value": answer})).encode(), b"")

    def probe(self, questions: Sequence[Question[Any]], *, timeout: float = 120.0) -> Answers:
        del timeout
        self._reach()
        return Answers({question: self._answer(question) for question in questions})

    def _answer(self, question: Question[Any]) -> Observed[Any]:
        return read(question, self._told(question))

    def _told(self, question: Question[Any]) -> Observed[Any]:
        try:
            match question:
                case SessionOf():
                    name = _ahead(question.directory)
                    value: Any = self.box.look() if name is None else self.box.state_ahead(name)
                case PackagesOf():
                    versions = {name: self.box.had.get(name) for name in question.names}
                    value = {"python": "3.11.9", "packages": versions}
                case ProcessesUnder():
                    value = {"processes": self.box.processes, "unreadable": 0}
                case GpuList():
                    value = {"installed": False, "gpus": []}
                case Command():
                    value = self.box.on_command(question)
                case Now():
                    value = {"time": self.box.clock.now()}
                case TailOf():
                    value = {**box_files.tail(**question.arguments()), "mtime": self.box.spoken_at}
                case _:
                    value = _OPERATIONS[question.op](**question.arguments())
        except (OSError, ValueError) as error:
            return Observed(problem=str(error))
        return Observed(value=value)

    def fetch(self, remote: RemoteFile, destination: Path, on_progress: OnProgress | None = None) -> None:
        self._reach()
        self.box.on_fetch(remote)
        data = Path(remote.path).read_bytes()
        if hashlib.sha256(data).hexdigest() != remote.sha256:
            raise RemoteChanged(f"{remote.path} has changed")
        self._travel(remote.size, on_progress)
        durable.write(destination, data)

    def _travel(self, size: int, on_progress: OnProgress | None) -> None:
        """Bytes on their way, told of a hundred times."""
        for part in range(1, 101):
            self.box.clock.turn(self.box.transfer_s / 100)
            if on_progress is not None:
                on_progress(Progress(size * part // 100, size))

    def mirror(
        self, files: Mapping[str, str], destination: Path, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        self._reach()
        if cancelled():
            raise TransferFailed("called off")
        incoming = destination.with_name(destination.name + ".incoming")
        for name, path in files.items():
            (incoming / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, incoming / name)
        durable.publish(incoming, destination)

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
        del written
        self._reach()
        if Path(remote_dir).name != "ahead":  # code is there in a moment
            self._travel(sum((source / name).stat().st_size for name in files if not elsewhere), on_progress)
        for name in files:
            target = Path(remote_dir) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile((elsewhere or {}).get(name, source / name), target)

    def close(self) -> None:
        pass
