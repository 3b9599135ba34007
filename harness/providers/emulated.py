"""The embedded Vast.ai: started once, found again, and left running when this process dies.

Its address and key are in ``emulator.json`` under its home, its state beside it. One
that died is started again on the same state; it listens at a new port then.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from harness.core import durable, environment
from harness.core.errors import BadInput, HarnessError, MissingExtra, ProviderUnavailable
from harness.core.ports import Clock, Provider
from harness.core.text import printable
from harness.providers.detached import spawn
from harness.providers.registry import ProviderSettings
from harness.providers.vast.credentials import Credentials
from harness.providers.vast.provider import VastProvider
from harness.providers.vast.rate_limits import UNPACED

NAME = "emulated"
_MODULE = "harness.emulator"
_SCENARIO = "--scenario"
_ADDRESS = re.compile(r"^listening on (http://127\.0\.0\.1:\d+)/?\s*$", re.MULTILINE)
_KEY = re.compile(r"^key: (\S+)\s*$", re.MULTILINE)
_POLL_S = 0.05
_LOCK_S = 120.0
_STOP_S = 15.0
_OUTPUT_LIMIT = 64 << 10


@dataclass(frozen=True, slots=True)
class _Record:
    url: str
    key: str
    pid: int


def open_provider(settings: ProviderSettings) -> Provider:
    """The embedded provider of this user, with the job's scenario."""
    environment.keep_loopback_direct()
    home = emulator_home(settings.home, settings.scenario)
    return open_emulated(home, settings.clock, scenario=settings.scenario)


def emulator_home(home: Path, scenario: str | None) -> Path:
    """Where the embedded provider keeps its state: one for ordinary jobs, one of its own for each scenario."""
    return home / ("emulator" if scenario is None else f"emulator-{Path(scenario).stem}")


def open_emulated(home: Path, clock: Clock, *, scenario: str | None = None) -> VastProvider:
    """The embedded provider, started when it is not running; the same code as for the real one, unpaced."""
    return VastProvider(ensure_emulator(home, clock, scenario=scenario), clock, name=NAME, pace=UNPACED)


def ensure_emulator(home: Path, clock: Clock, *, scenario: str | None = None, start_s: float = 60.0) -> Credentials:
    """The address and key of the emulator whose home this is, started when it is not running.

    Raises BadInput when it runs another scenario, ProviderUnavailable when it does not come up in ``start_s`` seconds.
    """
    home = home.resolve()
    with _alone(home):
        known = _read(home)
        pid = known.pid if known is not None and _runs(known.pid, home) else _find(home)
        if known is None or pid != known.pid:
            known = _await(pid or spawn(_command(home, scenario), cwd=home, output=_output(home)), home, clock, start_s)
            durable.write(_record(home), json.dumps(asdict(known)).encode(), mode=0o600)
    playing = _scenario(known.pid)
    if playing != scenario:
        raise BadInput(
            f"the emulator of {home} is running with {f'scenario {playing}' if playing else 'no scenario'}",
            remedy="Ask for that one, or stop the emulator first.",
        )
    _require_listening(known)
    return Credentials(known.url, known.key)


def stop_emulator(home: Path) -> bool:
    """Stop the emulator, keeping its state; False when it was not running. Raises HarnessError when it does not end."""
    home = home.resolve()
    if not home.exists():
        return False
    with _alone(home):
        known = _read(home)
        pid = known.pid if known is not None and _runs(known.pid, home) else _find(home)
        if pid is None:
            return False
        psutil = _psutil()
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            process.terminate()
            try:
                process.wait(_STOP_S)
            except psutil.TimeoutExpired as error:
                raise HarnessError(f"the emulator (process {pid}) does not end") from error
        return True


def _await(pid: int, home: Path, clock: Clock, start_s: float) -> _Record:
    """What a starting emulator says about itself."""
    deadline = clock.monotonic() + start_s
    while True:
        running = _runs(pid, home)  # asked first: what it said before it ended is then complete
        with _output(home).open(encoding="utf-8", errors="replace") as file:
            said = file.read(_OUTPUT_LIMIT)
        address, key = _ADDRESS.search(said), _KEY.search(said)
        if running and address and key:
            return _Record(address.group(1), key.group(1), pid)
        if not running or clock.monotonic() > deadline:
            raise ProviderUnavailable(
                f"the emulator did not start; it said: {printable(said[-1000:].strip()) or '(nothing)'}",
                remedy=f"Read {_output(home)}, and see that the packages of the extra [emulator] are installed.",
            )
        clock.sleep(_POLL_S)


def _command(home: Path, scenario: str | None) -> Sequence[str]:
    wanted = (_SCENARIO, scenario) if scenario else ()
    return (sys.executable, "-m", _MODULE, "--port", "0", "--state", str(home / "state"), *wanted)


def _record(home: Path) -> Path:
    return home / "emulator.json"


def _output(home: Path) -> Path:
    return home / "emulator.log"


def _runs(pid: int, home: Path) -> bool:
    """Whether a process is the emulator of this home, and not a later one with the same number.

    The process is looked at, and not asked over HTTP: a rehearsed fault may spoil any answer, and is used up by it.
    """
    command = _command_of(pid)
    return _MODULE in command and str(home / "state") in command


def _find(home: Path) -> int | None:
    """An emulator of this home that was not recorded: its starter was killed before it could."""
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


def _require_listening(record: _Record) -> None:
    address = urlsplit(record.url)
    try:
        socket.create_connection((address.hostname or "", address.port or 0), timeout=5).close()
    except OSError as error:
        raise ProviderUnavailable(
            f"the emulator (process {record.pid}) runs, but {record.url} does not answer: {error}",
            remedy="End that process and run the same command again.",
        ) from error


def _read(home: Path) -> _Record | None:
    """What was recorded; it is written whole or not at all, so that one that cannot be read was damaged since."""
    try:
        found = json.loads(_record(home).read_text(encoding="utf-8"))
        return _Record(str(found["url"]), str(found["key"]), int(found["pid"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{_record(home)} cannot be read: {error}", remedy="Delete it if no emulator runs.") from error


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
