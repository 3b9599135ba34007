"""Wrong inputs and wrong states, as people meet them: the message, the next step, the exit code, and that step taken.

A remedy that names a command is typed as it was printed; one that asks for something to be put right is followed, and
the same command typed again. Either must then do what was promised.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shlex
import socket
import sqlite3
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import typer

from harness.cli import entry, orphans, transfer
from harness.cli import run as run_command
from harness.core.clock import SystemClock
from harness.core.ids import JobName, Sha256
from harness.core.lifecycle import Stage
from harness.ledger.events import Held, Released
from harness.ledger.history import fold
from harness.ledger.sql import open_store
from harness.release import release as releases
from harness.remote.host import SshHost
from harness.remote.ssh.keys import generate_keypair
from harness.wiring import OpenContext
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import INSTANCE, LABEL, Log, events_of, job
from tests.support.model_files import TINY, write_gguf
from tests.support.scripted_world import Market

ROOT = Path(__file__).resolve().parents[3]
MODEL = b"a whole model"


class Hurried:
    """Real time, but that nobody waits for it."""

    def __init__(self) -> None:
        self._slept = 0.0

    def now(self) -> float:
        return SystemClock().now()

    def monotonic(self) -> float:
        return SystemClock().monotonic() + self._slept

    def sleep(self, seconds: float) -> None:
        self._slept += seconds


@dataclass(slots=True)
class Desk:
    """A person's machine: a harness's home, a folder, and what was said last."""

    folder: Path
    patch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    said: str = ""
    held: list[Any] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def model(self) -> Path:
        return self.folder / "m.gguf"

    def type(self, line: str) -> int:
        """A command line; its exit code, what it said in ``said``."""
        words = shlex.split(line.format(folder=self.folder, instance=INSTANCE))
        assert words[0] == "harness"
        self.patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out, err = self.capsys.readouterr()
        assert "Traceback" not in out + err
        self.said = " ".join((out + err).split())
        return int(ended.value.code or 0)

    def write(self, log: Log) -> None:
        """A job's events."""
        self.home.mkdir(exist_ok=True)
        store = open_store(self.home / "state.db", SystemClock())
        for event in events_of(log.records):
            store.append(JobName(log.job.name), event)

    def put(self, name: str, content: str | bytes) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def environ(self, name: str, value: str) -> None:
        """A variable."""
        self.patch.setenv(name, value.format(folder=self.folder))


Act = Callable[[Desk], object]


@dataclass(frozen=True, slots=True)
class Wrong:
    """One case: what is typed in which state, and what must come of it; then the remedy, and what comes of that."""

    typed: str
    code: int
    told: str
    then: str
    """Words of the next step."""
    state: tuple[Act, ...] = ()
    mend: Act | None = None
    """The remedy, where a person has to do something; the same command is typed again."""
    again: str = ""
    """The command of the remedy, as it was printed."""
    after: tuple[int, str] = (0, "")


def _job_text(**changes: str) -> str:
    lines = {"name": "'night'", "profile": "'forex-r1-v3'", "package.source": "'.'", **changes}
    return "".join(f"{key} = {value}\n" for key, value in lines.items())


def job_file(**changes: str) -> Act:
    return lambda desk: desk.put("night.toml", _job_text(**changes))


def file(name: str, content: str | bytes) -> Act:
    return lambda desk: desk.put(name, content)


def env(name: str, value: str) -> Act:
    return lambda desk: desk.environ(name, value)


def rented(desk: Desk) -> None:
    desk.write(Log().rented())


def held(desk: Desk) -> None:
    desk.write(Log().rented().add(Held(stage=Stage.PROVISION, error="GateHeld", reason="driver too old")))


def trained(desk: Desk) -> None:
    desk.write(Log().trained())


def _given(desk: Desk) -> dict[str, Any]:
    desk.model.write_bytes(MODEL)
    return {"path": str(desk.model), "size": len(MODEL), "sha256": Sha256(hashlib.sha256(MODEL).hexdigest())}


def verified(desk: Desk) -> None:
    desk.write(Log().verified(**_given(desk)))


def closed(desk: Desk) -> None:
    log, given = Log(), _given(desk)
    with desk.patch.context() as patch:
        patch.setattr(log, "verified", lambda: Log.verified(log, **given))
        desk.write(log.closed())


def released(desk: Desk) -> None:
    verified(desk)
    store = open_store(desk.home / "state.db", SystemClock())
    history = fold(store.records(JobName("night")))
    data = releases.to_json(releases.statement(history, "vast", SystemClock().now()))
    path = desk.put("release.json", data)
    store.append(JobName("night"), Released(path=str(path), sha256=hashlib.sha256(data).hexdigest()))


def another_damaged(desk: Desk) -> None:
    desk.write(Log(job().model_copy(update={"name": JobName("other")})).rented())
    with contextlib.closing(sqlite3.connect(desk.home / "state.db")) as opened, opened:
        opened.execute("update events set data = '{}' where job = 'other'")


def restored(desk: Desk) -> None:
    with contextlib.closing(sqlite3.connect(desk.home / "state.db")) as opened, opened:
        opened.execute("delete from events where job = 'other'")
        opened.execute("delete from heads where job = 'other'")


def lost_log(desk: Desk) -> None:
    text = '{"facts": {"instance": {"value": {"id": 4711, "label": "gsh-night-0a1b2c3d"}},'
    text += ' "offer": {"value": {"usd_per_hour": 15.9}}}}'
    desk.put("home/jobs/night/evidence/provision-1800000000000.json", text)


def aside(desk: Desk) -> None:
    (desk.home / "jobs" / "night").rename(desk.folder / "aside")


def locked(desk: Desk) -> None:
    lock = open_store(desk.home / "state.db", SystemClock()).lock(JobName("night"))
    lock.__enter__()
    desk.held.append(lock)


def ended(desk: Desk) -> None:
    desk.held.pop().__exit__(None, None, None)


def no_file(desk: Desk) -> None:
    desk.model.unlink()


def file_back(desk: Desk) -> None:
    desk.model.unlink(missing_ok=True)
    desk.model.write_bytes(MODEL)


def shown(desk: Desk) -> None:
    market = Market(FakeClock(0.0))
    market.add(INSTANCE, LABEL)
    desk.patch.setattr(OpenContext, "provider", lambda _: market)


def unshown(desk: Desk) -> None:
    desk.patch.setattr(OpenContext, "provider", lambda _: Market(FakeClock(0.0)))


def driven(desk: Desk) -> None:
    """The runner is not what is tried: its call is enough."""
    desk.patch.setattr(run_command, "drive", lambda of, _file, **_: typer.echo(f"driving {of.name}"))


def read_only(desk: Desk) -> None:
    (desk.folder / "closed").mkdir()
    real = os.access
    refuse = str(desk.folder / "closed")
    desk.patch.setattr(
        os, "access", lambda path, mode: not (str(path) == refuse and mode & os.W_OK) and real(path, mode)
    )


def opened(desk: Desk) -> None:
    (desk.folder / "closed").rmdir()


def no_room(desk: Desk) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(desk.model))

    desk.patch.setattr(transfer, "_fetch", full)
    desk.patch.setattr(SshHost, "run", lambda *_a, **_k: None)


def without(*modules: str) -> Act:
    def hide(desk: Desk) -> None:
        for name in [*modules, *(one for one in sys.modules if one.startswith(tuple(f"{m}." for m in modules)))]:
            desk.patch.setitem(sys.modules, name, None)
        for mine in ("harness.emulator.running", "harness.emulator.web.app"):
            desk.patch.delitem(sys.modules, mine, raising=False)

    return hide


def network(error: Exception) -> Act:
    """Every request of the client's library ends so, as that library tells it."""

    def broken(desk: Desk) -> None:
        def ask(*_: object, **__: object) -> None:
            raise error

        desk.patch.setattr(requests.Session, "send", ask)

    return broken


def own_key(desk: Desk) -> None:
    generate_keypair(desk.home / "ssh" / "id_ed25519")


def unresolved(desk: Desk) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    desk.patch.setattr(socket, "create_connection", fail)


def no_answer(desk: Desk) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TimeoutError("timed out")

    desk.patch.setattr(socket, "create_connection", fail)


def key_unset(desk: Desk) -> None:
    desk.patch.delenv("VAST_API_KEY", raising=False)


def gguf(desk: Desk) -> Path:
    return write_gguf(desk.folder / "tiny.Q8_0.gguf", TINY)


def cut(desk: Desk) -> None:
    path = desk.folder / "tiny.Q8_0.gguf"
    path.write_bytes(path.read_bytes()[:-4096])


def key_server(desk: Desk) -> None:
    """A provider's key, and an address at which nothing listens."""
    desk.environ("VAST_API_KEY", "0123456789abcdef")
    desk.environ("VAST_URL", "http://127.0.0.1:1")


def _tls() -> Exception:
    inner = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    inner.verify_message = "self-signed certificate in certificate chain"
    return requests.exceptions.SSLError(inner)


BY_ADDRESS = "harness download --plain --ssh-host 127.0.0.1 --port 1 --local-path {folder}/here"

WRONG: dict[str, Wrong] = {
    # --- the job file
    "no such job file": Wrong(
        "harness run no/such.toml", 2, "cannot read the job file no/such.toml", "harness status", again="harness status"
    ),
    "a job file that is no TOML": Wrong(
        "harness run {folder}/night.toml",
        2,
        "not TOML: ",
        "Correct the input named above",
        (driven, file("night.toml", "name = night\n")),
        job_file(),
        after=(0, "driving night"),
    ),
    "a Windows path in double quotes": Wrong(
        "harness run {folder}/night.toml",
        2,
        "write Windows paths in single quotes",
        "Correct the input",
        (driven, job_file(**{"package.source": '"C:\\models"'})),
        job_file(),
        after=(0, "driving night"),
    ),
    "a field that there is not": Wrong(
        "harness run {folder}/night.toml",
        2,
        "line 4: limits.budget: there is no such field; allowed: budget_usd",
        "Correct the input",
        (driven, job_file(**{"limits.budget": "20"})),
        job_file(**{"limits.budget_usd": "20"}),
        after=(0, "driving night"),
    ),
    "a profile that there is not": Wrong(
        "harness run {folder}/night.toml",
        2,
        "is not one of any-training, forex-r1-v3",
        "Correct the input",
        (driven, job_file(profile="'forex'")),
        job_file(),
        after=(0, "driving night"),
    ),
    "a provider that there is not": Wrong(
        "harness run {folder}/night.toml",
        2,
        "no provider is of kind 'vats'",
        "Did you mean vast?",
        (driven, job_file(**{"provider.kind": "'vats'"})),
        job_file(**{"provider.kind": "'vast'"}),
        after=(0, "driving night"),
    ),
    "a job file in UTF-16": Wrong(
        "harness run {folder}/night.toml",
        2,
        "not UTF-8 but UTF-16, as PowerShell's > writes it",
        "Set-Content -Encoding utf8",
        (driven, file("night.toml", _job_text().encode("utf-16"))),
        file("night.toml", _job_text().encode("utf-8-sig")),
        after=(0, "driving night"),
    ),
    "a folder for a job file": Wrong("harness run {folder}", 2, "Is a directory", "Correct the input"),
    "a job file of an adoption": Wrong(
        "harness run {folder}/night.toml",
        2,
        "does not say whether an instance is adopted",
        "harness destroy --instance-id N --job-file FILE",
        (job_file(adopted="true"),),
    ),
    "a package that is not there": Wrong(
        "harness run {folder}/night.toml --plain",
        2,
        "is not a directory",
        "harness run night",
        (job_file(**{"package.source": "'nowhere'"}),),
    ),
    # --- names
    "a stage that there is not": Wrong(
        "harness run {folder}/night.toml --until trainig",
        2,
        "--until trainig: no stage has that name",
        "Did you mean training? The stages: preflight, provision",
        (driven, job_file()),
    ),
    "a stage in capitals": Wrong(
        "harness demo --until PostDownload", 2, "no stage has that name", "Did you mean postdownload?", (driven,)
    ),
    "a scenario that there is not": Wrong(
        "harness demo --scenario crate-reply-lost",
        2,
        "no scenario 'crate-reply-lost'",
        "Did you mean create-reply-lost? Give a TOML file, or one of: answer-empty",
    ),
    "a scenario that is no TOML": Wrong(
        "harness emulator --scenario {folder}/s.toml", 2, "not TOML", "Correct the input", (file("s.toml", "= 1"),)
    ),
    "a command that there is not": Wrong("harness dowload", 2, "No such command 'dowload'", "Did you mean 'download'?"),
    "a job that there is not": Wrong(
        "harness status nihgt",
        2,
        "there is no job 'nihgt' in",
        "Did you mean night? harness status lists the jobs",
        (rented,),
        again="harness status",
        after=(0, "night"),
    ),
    "a report of no job": Wrong(
        "harness report nihgt", 2, "there is no job 'nihgt'", "Did you mean night?", (rented,), again="harness status"
    ),
    "a download of no job": Wrong(
        "harness download nihgt", 2, "there is no job 'nihgt'", "Did you mean night?", (rented,), again="harness status"
    ),
    "a destruction of no job": Wrong(
        "harness destroy nihgt --yes", 2, "there is no job 'nihgt'", "harness status", (rented,), again="harness status"
    ),
    "an abandonment of no job": Wrong(
        "harness abandon nihgt", 2, "there is no job 'nihgt'", "harness status", (rented,), again="harness status"
    ),
    "what bills of no job": Wrong(
        "harness orphans nihgt", 2, "there is no job 'nihgt'", "harness status", (rented,), again="harness status"
    ),
    "a run by no job's name": Wrong(
        "harness run nihgt",
        2,
        "no job has begun under the name nihgt",
        "harness status",
        (rented,),
        again="harness status",
    ),
    "a name that none can have": Wrong("harness status 'No Name'", 2, "not a job name", "Correct the input"),
    "no job at all": Wrong(
        "harness download",
        2,
        "no job has been run yet",
        "harness demo runs one on this machine",
        (driven,),
        again="harness demo",
        after=(0, "driving"),
    ),
    "a provider to look at that there is not": Wrong(
        "harness orphans --provider vats", 2, "no provider is of kind 'vats'", "Did you mean vast?"
    ),
    # --- options
    "a job and an address": Wrong(
        "harness download night --ssh-host h", 2, "night and --ssh-host h are both named", "Correct the input"
    ),
    "a port for a job": Wrong("harness download --port 22", 2, "go with --ssh-host: a job knows its own", "Correct"),
    "an address and no folder": Wrong(
        "harness download --ssh-host h --port 22", 2, "needs --port and --local-path", "Correct the input"
    ),
    "an address and no port": Wrong(
        "harness download --ssh-host h --local-path {folder}/here",
        2,
        "needs --port, or a Port for that host",
        "Correct",
    ),
    "a size that is none": Wrong(BY_ADDRESS + " --over big", 2, "--over=big: a size such", "Correct the input"),
    "a key that is not there": Wrong(
        BY_ADDRESS + " --key {folder}/none",
        2,
        "none is no private key that can be used: No such file or directory",
        "Name the key whose public half the instance has: --key FILE",
        mend=lambda desk: generate_keypair(desk.folder / "none"),
        after=(8, "does not answer: refused"),
    ),
    "a machine without any key": Wrong(
        BY_ADDRESS,
        2,
        "there is no key on this machine to log in to 127.0.0.1:1",
        "Name the key whose public half the instance has: --key FILE",
        mend=own_key,
        after=(8, "does not answer: refused"),
    ),
    "a job and an instance": Wrong(
        "harness destroy night --instance-id 5", 2, "night and --instance-id 5 are both named", "Correct the input"
    ),
    "a job file for a job": Wrong(
        "harness destroy night --job-file {folder}/night.toml",
        2,
        "--job-file goes with --instance-id",
        "Correct the input",
        (job_file(),),
    ),
    "a folder for a job's own model": Wrong(
        "harness destroy --instance-id 5 --local-path {folder}",
        2,
        "--local-path goes with --job-file",
        "Correct the input",
    ),
    "a key for an adoption": Wrong(
        "harness adopt --instance-id 5 --job-file {folder}/night.toml --key k",
        2,
        "--key goes with --check",
        "Correct the input",
        (job_file(),),
    ),
    "a port that is none": Wrong(
        "harness emulator --port 70000", 2, "less than or equal to 65535", "harness emulator -h"
    ),
    "nothing to judge": Wrong("harness guard", 2, "nothing to judge", "harness guard -- COMMAND"),
    "an emulator that is not there": Wrong(
        "harness emulator --stop --state {folder}/none", 2, "there is no such folder", "Correct the input"
    ),
    # --- the destination
    "a file where the folder belongs": Wrong(
        "harness download --plain --ssh-host 127.0.0.1 --port 1 --local-path {folder}/taken",
        2,
        "taken: it is no folder",
        "Name a folder in which you may write",
        (file("taken", "mine"),),
    ),
    "a read-only destination": Wrong(
        "harness download --plain --ssh-host 127.0.0.1 --port 1 --local-path {folder}/closed",
        2,
        "closed: it is read-only",
        "Name a folder in which you may write, or mend that one",
        (own_key, read_only),
        opened,
        after=(8, "does not answer: refused"),
    ),
    "a full destination": Wrong(
        BY_ADDRESS, 9, "m.gguf is full: No space left", "Free the bytes named above", (no_room,)
    ),
    # --- the network
    "a box that refuses": Wrong(
        BY_ADDRESS,
        8,
        "127.0.0.1:1 (direct) does not answer: refused, nothing listens there",
        "Run the same command again",
        (own_key,),
    ),
    "a host that has no address": Wrong(
        BY_ADDRESS,
        8,
        "the name cannot be resolved (DNS): Name or service not known",
        "Run the same command again",
        (own_key, unresolved),
    ),
    "a box that is silent": Wrong(
        BY_ADDRESS, 8, "does not answer: timed out", "Run the same command again", (own_key, no_answer)
    ),
    "no API key": Wrong(
        "harness orphans",
        2,
        "no Vast.ai API key was found",
        "set VAST_API_KEY, or run: vastai set api-key KEY",
        (key_unset,),
        key_server,
        after=(7, "got no reply from 127.0.0.1:1: refused"),
    ),
    "an API key with a blank in it": Wrong(
        "harness orphans",
        2,
        "holds characters that no key has",
        "Get a key at",
        (env("VAST_API_KEY", "a b"),),
        key_server,
        after=(7, "refused"),
    ),
    "an address without TLS": Wrong(
        "harness orphans",
        2,
        "would send the API key unencrypted: use https",
        "Correct the input",
        (env("VAST_API_KEY", "a"), env("VAST_URL", "http://example.org")),
    ),
    "a provider that refuses": Wrong(
        "harness orphans",
        7,
        "got no reply from 127.0.0.1:1: refused",
        "Check the network and the API key",
        (key_server,),
    ),
    "a provider without a name": Wrong(
        "harness orphans",
        7,
        "the name cannot be resolved (DNS): Name or service not known",
        "Check the network",
        (key_server, network(requests.ConnectionError(socket.gaierror(-2, "Name or service not known")))),
    ),
    "a provider behind a stranger's certificate": Wrong(
        "harness orphans",
        7,
        "TLS failed: self-signed certificate in certificate chain",
        "Check the network",
        (key_server, network(_tls())),
    ),
    "a provider that is silent": Wrong(
        "harness orphans",
        7,
        "timed out: Read timed out. (read timeout=60)",
        "Check the network",
        (
            key_server,
            network(requests.ReadTimeout("HTTPSConnectionPool(host='x', port=443): Read timed out. (read timeout=60)")),
        ),
    ),
    "a proxy that refuses": Wrong(
        "harness orphans",
        7,
        "at the proxy: refused",
        "Check the network",
        (key_server, network(requests.exceptions.ProxyError(ConnectionRefusedError(111, "Connection refused")))),
    ),
    # --- where a job stands
    "nothing to download yet": Wrong(
        "harness download night",
        2,
        "is at stage provision: there is nothing to download yet",
        "harness run night goes on with it",
        (rented, driven),
        again="harness run night",
        after=(0, "driving night"),
    ),
    "a held job that is to be destroyed": Wrong(
        "harness destroy night --yes", 5, "its artifact is not verified on this machine", "harness run", (held,)
    ),
    "a trained job that is to be destroyed": Wrong(
        "harness destroy --instance-id {instance} --yes",
        5,
        "is at stage posttrain: its artifact is not verified on this machine",
        "brings it home and verifies it first",
        (trained,),
    ),
    "a job that another process runs": Wrong(
        "harness download night",
        10,
        f"job night is being run by process {os.getpid()}",
        "Wait until the process named above has ended",
        (verified, locked),
        ended,
        after=(0, "already verified"),
    ),
    "a closed job whose file is gone": Wrong(
        "harness download night",
        3,
        "m.gguf is gone, and the instance of job night is gone: it cannot be fetched again",
        "then harness download night looks again",
        (closed, no_file),
        file_back,
        after=(0, "already verified"),
    ),
    "a closed job whose file has changed": Wrong(
        "harness download night",
        3,
        "m.gguf has changed",
        "then harness download night looks again",
        (closed, file("m.gguf", "another model")),
        file_back,
        after=(0, "already verified"),
    ),
    "a closed job that is to be destroyed": Wrong(
        "harness destroy night --yes", 0, "job night is closed", "its instance destroyed", (closed,)
    ),
    "an instance that is gone and shows": Wrong(
        "harness destroy --instance-id {instance} --yes",
        5,
        "has proven that instance 4711 is gone, and the provider shows it",
        "look at the provider's console",
        (closed, shown),
        unshown,
        after=(0, "job night is closed"),
    ),
    "an instance of nobody": Wrong(
        "harness destroy --instance-id 99",
        5,
        "no job in this ledger has rented instance 99",
        "harness adopt --instance-id 99 writes such a file",
    ),
    # --- the store
    "a relative home": Wrong(
        "harness status",
        2,
        "HARNESS_HOME=mine is a relative path",
        "Set it to the whole path: HARNESS_HOME={folder}/mine",
        (env("HARNESS_HOME", "mine"),),
        env("HARNESS_HOME", "{folder}/mine"),
        after=(0, "no job has been run yet"),
    ),
    "a home of nobody": Wrong(
        "harness status",
        2,
        "HARNESS_HOME=~nobody-of-this-name/x is no place",
        "Correct",
        (env("HARNESS_HOME", "~nobody-of-this-name/x"),),
    ),
    "a home that is a file": Wrong(
        "harness status",
        10,
        "cannot create",
        "Check that the state directory named above exists",
        (file("taken", "x"), env("HARNESS_HOME", "{folder}/taken")),
        lambda desk: (desk.folder / "taken").unlink(),
        after=(0, "no job has been run yet"),
    ),
    "a store that is none": Wrong(
        "harness status",
        10,
        "file is not a database",
        "Without one, move it away",
        (file("home/state.db", "no database " * 100),),
        lambda desk: (desk.home / "state.db").rename(desk.folder / "aside.db"),
        after=(0, "no job has been run yet"),
    ),
    "a store that cannot be opened": Wrong(
        "harness status",
        10,
        "unable to open database file",
        "Check that the state directory named above exists",
        (lambda desk: (desk.home / "state.db").mkdir(parents=True),),
        lambda desk: (desk.home / "state.db").rmdir(),
        after=(0, "no job has been run yet"),
    ),
    "a damaged log": Wrong(
        "harness status",
        10,
        "the log of job other in",
        "Restore the store from a copy",
        (rented, another_damaged),
        restored,
        after=(0, "night"),
    ),
    "two jobs, one of them damaged, and none named": Wrong(
        "harness report",
        10,
        "which job moved last cannot be told",
        "Name the job that is meant.",
        (rented, another_damaged, unshown),
    ),
    "a job whose log is lost": Wrong(
        "harness status night",
        10,
        "the event log knows nothing of job night",
        "harness destroy --instance-id 4711 --job-file FILE",
        (lost_log,),
        aside,
        after=(2, "there is no job 'night'"),
    ),
    # --- releases and files
    "a release that is not there": Wrong(
        "harness release show {folder}/none.json", 2, "none.json", "Correct the input named above"
    ),
    "a release that is none": Wrong(
        "harness release check {folder}/r.json", 2, "r.json", "Correct the input", (file("r.json", "{}"),)
    ),
    "a release of another file, on another machine": Wrong(
        "harness release check {folder}/release.json",
        5,
        "is not valid: ",
        "do not use the file",
        (released, file("m.gguf", "another")),
        file_back,
        after=(0, "valid: "),
    ),
    "a release of another file": Wrong(
        "harness release check --log {folder}/release.json",
        5,
        "is not valid: ",
        "harness run night verifies it again",
        (released, file("m.gguf", "another")),
        file_back,
        after=(0, "valid: "),
    ),
    "a file that is not there": Wrong("harness verify {folder}/none.gguf", 2, "is not there", "Correct the input"),
    "a file of no kind": Wrong(
        "harness verify {folder}/notes.txt",
        2,
        "is none of what can be judged",
        "Name one of these. ",
        (file("notes.txt", "x"),),
    ),
    "a model that is cut short": Wrong(
        "harness verify {folder}/tiny.Q8_0.gguf", 3, "tiny.Q8_0.gguf: ", "", (gguf, cut), gguf
    ),
    "an expectation that is none": Wrong(
        "harness verify {folder}/tiny.Q8_0.gguf --expect size=big", 2, "size", "Correct the input", (gguf,)
    ),
    "rules into a folder": Wrong("harness rules --write {folder}", 2, "", "Correct"),
    # --- what is not installed
    "no emulator": Wrong(
        "harness emulator",
        11,
        "the emulator needs packages",
        "pip install 'gold-standard-harness[emulator]'",
        (without("aiohttp"),),
    ),
    "no client of the provider": Wrong(
        "harness orphans",
        11,
        "the Vast.ai provider needs packages",
        "pip install 'gold-standard-harness[vast]'",
        (key_server, without("vastai")),
    ),
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    """A machine with nothing on it: no job, no key, nobody at the keyboard, no network but this machine's own."""
    for name in ("VAST_API_KEY", "VAST_URL", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr("harness.wiring.SystemClock", Hurried)
    monkeypatch.setattr(orphans, "SystemClock", Hurried)
    return Desk(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_a_next_step_that_helps(name: str, desk: Desk) -> None:
    case = WRONG[name]
    for act in case.state:
        act(desk)
    assert desk.type(case.typed) == case.code, desk.said
    assert case.told in desk.said
    assert case.then.format(folder=desk.folder) in desk.said
    if case.code >= 3:
        assert f"exit code {case.code} (" in desk.said
    if case.mend is None and not case.again:
        return
    assert case.again in desk.said
    if case.mend is not None:
        case.mend(desk)
    assert desk.type(case.again or case.typed) == case.after[0], desk.said
    assert case.after[1] in desk.said


def test_as_many_cases_and_remedies_as_promised() -> None:
    assert len(WRONG) >= 40
    assert sum(case.mend is not None or bool(case.again) for case in WRONG.values()) >= 20
