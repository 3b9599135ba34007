"""The embedded Vast.ai: started once, found again, and left running when this process dies in mid-job.

It is found by its command line; its address and key are the first that it said, in ``emulator.log`` under its home.
It ends by itself when no process uses it and no instance is there. One that ended or died is started again on the same
state; it listens at a new port then.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from pydantic import BaseModel

from harness.core import environment, in_use
from harness.core.errors import BadInput, HarnessError, MissingExtra, ProviderUnavailable
from harness.core.ports import Clock, Provider
from harness.core.text import printable
from harness.providers.assumptions import Subject
from harness.providers.detached import spawn
from harness.providers.rate_limits import UNPACED
from harness.providers.registry import ProviderSettings
from harness.providers.vast.assumptions import ASSUMPTIONS
from harness.providers.vast.credentials import Credentials
from harness.providers.vast.keys import VastKeyIssuer
from harness.providers.vast.provider import VastProvider

__all__ = (
    "ASSUMPTIONS",
    "emulator_home",
    "ensure_emulator",
    "open_emulated",
    "open_provider",
    "open_stop_keys",
    "open_subject",
)

NAME = "emulated"
_MODULE = "harness.emulator"
_USED = "in-use"
_SCENARIO = "--scenario"
_ADDRESS = re.compile(r"^listening on (http://127\.0\.0\.1:\d+)/?\s*$", re.MULTILINE)
_KEY = re.compile(r"^key: (\S+)\s*$", re.MULTILINE)
_POLL_S = 0.05
_LOCK_S = 120.0
_START_S = 60.0
_STOP_TRIES = 300
_OUTPUT_LIMIT = 64 << 10


class EmulatedSettings(BaseModel):
    """Settings of the embedded provider."""

    scenario: str | None = None
    """The embedded provider's scenario: the name of a built-in one, or a file."""


SETTINGS = EmulatedSettings


def open_provider(settings: ProviderSettings) -> Provider:
    """The embedded provider of this user, with the job's scenario."""
    return VastProvider(_running(settings), settings.clock, name=NAME, pace=UNPACED)


def open_subject(settings: ProviderSettings) -> Subject:
    """The embedded provider, with the beliefs about the real one: it speaks the same."""
    from harness.providers.vast.trials import subject  # noqa: PLC0415 - one command needs it

    return subject(_running(settings), settings.clock, open_stop_keys(settings), UNPACED, name=NAME)


def open_stop_keys(settings: ProviderSettings) -> VastKeyIssuer:
    """The scoped keys of the embedded provider; no wall is built with them, for its own key lies open."""
    found = _running(settings)
    home = emulator_home(settings.home, settings.read(EmulatedSettings).scenario)
    return VastKeyIssuer(found.server_url, {"VAST_API_KEY": found.api_key}, home, settings.clock, UNPACED)


def _running(settings: ProviderSettings) -> Credentials:
    environment.keep_loopback_direct()
    scenario = settings.read(EmulatedSettings).scenario
    return ensure_emulator(emulator_home(settings.home, scenario), settings.clock, scenario=scenario)


def emulator_home(home: Path, scenario: str | None) -> Path:
    """Folder of the embedded provider: one for ordinary jobs, one of its own for each scenario."""
    return home / ("emulator" if scenario is None else f"emulator-{Path(scenario).stem}")


def open_emulated(home: Path, clock: Clock, *, scenario: str | None = None) -> VastProvider:
    """The embedded provider, started when it is not running; the same code as for the real one, unpaced."""
    return VastProvider(ensure_emulator(home, clock, scenario=scenario), clock, name=NAME, pace=UNPACED)


def ensure_emulator(home: Path, clock: Clock, *, scenario: str | None = None) -> Credentials:
    """The address and key of the emulator whose home this is, started when it is not running.

    Raises BadInput when it runs another scenario, ProviderUnavailable when it does not come up within a minute.
    """
    home = home.resolve()
    with _alone(home):
        in_use.hold(home / _USED)
        pid = _find(home) or spawn(_command(home, scenario), cwd=home, output=_output(home))
        credentials = _await(pid, home, clock)
    playing = _scenario(pid)
    if playing != scenario:
        raise BadInput(
            f"the emulator of {home} is running with {f'scenario {playing}' if playing else 'no scenario'}",
            remedy="Ask for that one, or stop the emulator first.",
        )
    _require_listening(credentials.server_url, pid)
    return credentials


def stop_emulator(home: Path) -> bool:
    """Stop the emulator of a home, or one that serves a folder by hand; what it holds stays. False when none runs.

    Raises HarnessError when it does not end.
    """
    home = home.resolve()
    if not home.exists():
        return False
    with _alone(home):
        pid = _serving(home / "state" if (home / "state").is_dir() else home)
        if pid is None:
            return False
        psutil = _psutil()
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            process.terminate()
            for _ in range(_STOP_TRIES):
                with contextlib.suppress(psutil.TimeoutExpired):
                    process.wait(_POLL_S)
                if not _command_of(pid):  # one that nobody waits for stays a zombie
                    return True
            raise HarnessError(f"the emulator (process {pid}) does not end")
        return True


def _serving(state_dir: Path) -> int | None:
    """The process that serves a directory, as it wrote down; a later one with the same number is no emulator."""
    try:
        pid = int((state_dir / "pid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return pid if any("emulator" in word for word in _command_of(pid)) else None


def _await(pid: int, home: Path, clock: Clock) -> Credentials:
    """Address and key that the emulator says when it starts."""
    deadline = clock.monotonic() + _START_S
    while True:
        running = _runs(pid, home)  # asked first: what it said before it ended is then complete
        try:
            with _output(home).open(encoding="utf-8", errors="replace") as file:
                said = file.read(_OUTPUT_LIMIT)
        except OSError as error:
            raise ProviderUnavailable(
                f"what the emulator (process {pid}) said cannot be read: {error}",
                remedy="End that process and run the same command again.",
            ) from error
        address, key = _ADDRESS.search(said), _KEY.search(said)
        if running and address and key:
            return Credentials(address.group(1), key.group(1))
        if not running or clock.monotonic() > deadline:
            raise ProviderUnavailable(
                f"the emulator did not start; it said: {printable(said[-1000:].strip()) or '(nothing)'}",
                remedy=f"Read {_output(home)}, and see that the packages of the extra [emulator] are installed.",
            )
        clock.sleep(_POLL_S)


def _command(home: Path, scenario: str | None) -> Sequence[str]:
    wanted = (_SCENARIO, scenario) if scenario else ()
    place = ("--state", str(home / "state"), "--while-used", str(home / _USED))
    return (sys.executable, "-m", _MODULE, "--port", "0", *place, *wanted)


def _output(home: Path) -> Path:
    return home / "emulator.log"


def _runs(pid: int, home: Path) -> bool:
    """True when a process is the emulator of this home, and not a later one with the same number.

    The process is looked at, and not asked over HTTP: a rehearsed fault may spoil any answer, and is used up by it.
    """
    command = _command_of(pid)
    return _MODULE in command and str(home / "state") in command


def _find(home: Path) -> int | None:
    """The emulator of this home that runs, whoever started it."""
    return next((pid for pid in _psutil().pids() if _runs(pid, home)), None)


def _scenario(pid: int) -> str | None:
    command = _command_of(pid)
    return command[command.index(_SCENARIO) + 1] if _SCENARIO in command[:-1] else None


def _command_of(pid: int) -> list[str]:
    """A live process's command line; empty when it has ended, or is another user's and so not ours."""
    psutil = _psutil()
    try:
        process = psutil.Process(pid)
        return [] if process.status() == psutil.STATUS_ZOMBIE else list(process.cmdline())
    except psutil.Error:
        return []


def _psutil() -> ModuleType:
    try:
        import psutil  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra("the embedded provider", "emulator") from error
    return psutil


def _require_listening(url: str, pid: int) -> None:
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname or "", address.port or 0), timeout=5).close()
    except OSError as error:
        raise ProviderUnavailable(
            f"the emulator (process {pid}) runs, but {url} does not answer: {error}",
            remedy="End that process and run the same command again.",
        ) from error


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One process at a time starts or stops the emulator of a home."""
    lock = FileLock(home / "emulator.lock", timeout=_LOCK_S)
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ProviderUnavailable(f"another process has been starting the emulator of {home} for too long") from error
    except OSError as error:
        raise BadInput(f"the emulator's home {home} cannot be used: {error}") from error
    try:
        yield
    finally:
        lock.release()
