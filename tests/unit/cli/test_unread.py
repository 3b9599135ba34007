"""Output that takes no more ends no command that drives a job: it is held, told and stopped as if somebody read."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from harness.cli import abandon, adopt, confirming, entry, run, teardown, transfer
from harness.cli.progress_view import open_reporter
from harness.cli.screens import LastingConsole
from harness.core.clock import SystemClock
from harness.core.errors import GateHeld, HarnessError, ProviderUnavailable
from harness.core.ids import JobName
from harness.core.lifecycle import Stage
from harness.core.ports import InstanceStatus
from harness.ledger.events import Held, InstanceStopped
from harness.ledger.sql import open_store
from harness.runner import run as runner
from harness.wiring import OpenContext
from tests.support.context import RENTS, make_world
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import INSTANCE, LABEL, Log, events_of, trained
from tests.support.scripted_world import Market

Output = Callable[[], IO[str]]


def _closed_pipe() -> IO[str]:
    """A pipe whose reader has gone, as behind ``| head``."""
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w", buffering=1)


def _full_disk() -> IO[str]:
    return Path("/dev/full").open("w", buffering=1, encoding="utf-8")


OUTPUTS = [
    _closed_pipe,
    pytest.param(_full_disk, marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has it")),
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HARNESS_NOTIFY", (tmp_path / "notices").as_uri())
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def market(monkeypatch: pytest.MonkeyPatch) -> Market:
    made = Market(FakeClock())
    made.add(INSTANCE, LABEL)
    made.add(4711777, None)
    monkeypatch.setattr(OpenContext, "provider", lambda _: made)
    monkeypatch.setattr(adopt, "open_provider", lambda *_: made)
    return made


def _type(monkeypatch: pytest.MonkeyPatch, output: IO[str], *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["harness", *words])
    monkeypatch.setattr(sys, "stdout", output)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    return int(ended.value.code or 0)


def _log(home: Path, log: Log) -> None:
    store = open_store(home / "state.db", SystemClock())
    for event in events_of(log.records):
        store.append(JobName(log.job.name), event)


def _drive(context: OpenContext, reporter: Any, *_: object, **__: object) -> None:
    """Three lines, and the end as the runner makes it."""
    for number in range(3):
        reporter.note(f"line {number}")
    context.record(Held(Stage.TRAINING, "GateHeld", "loss_is_sane"))
    raise GateHeld("loss_is_sane", remedy="then: harness run JOB")


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    ("module", "log", "words", "job"),
    [
        (run, trained(), ("run", "night", "--plain"), "night"),
        (run, trained(), ("run", "night"), "night"),
        (teardown, Log().verified(), ("destroy", "night", "--yes"), "night"),
        (transfer, trained(), ("download", "night"), "night"),
        (adopt, Log().closed(), ("adopt", "--instance-id", "4711777", "--job-file", "FILE"), "night-4711777"),
    ],
    ids=["run --plain", "run", "destroy", "download", "adopt"],
)
def test_a_command_that_nobody_reads_ends_as_one_that_somebody_reads(
    home: Path,
    market: Market,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    *,
    output: Output,
    module: Any,
    log: Log,
    words: tuple[str, ...],
    job: str,
) -> None:
    del market
    file = tmp_path / "night.toml"
    file.write_text(f"name = 'night'\nprofile = 'forex-r1-v3'\npackage.source = '{tmp_path}'\n", encoding="utf-8")
    _log(home, log)
    monkeypatch.setattr(module, "run_job", _drive)
    with output() as taken:
        code = _type(monkeypatch, taken, *(str(file) if word == "FILE" else word for word in words))
    said = " ".join(capsys.readouterr().err.split())
    assert code == GateHeld.exit_code
    assert said.count("nobody reads this command's output: it goes on without a word") == 1
    assert " bills $1" in said, "what bills is told where somebody may read it"
    assert "loss_is_sane" in said
    (*_, last) = events_of(open_store(home / "state.db", SystemClock()).records(JobName(job)))
    assert last == Held(Stage.TRAINING, "GateHeld", "loss_is_sane")
    told = [json.loads(line)["occasion"] for line in (tmp_path / "notices").read_text(encoding="utf-8").splitlines()]
    assert told == ["held"]


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_abandonment_that_nobody_reads_is_done(
    home: Path, market: Market, monkeypatch: pytest.MonkeyPatch, output: Output
) -> None:
    del market
    done: list[str] = []

    def give_up(_context: object, _accepts: object, say: Callable[[str], None]) -> None:
        say("asked")
        done.append("gone")

    _log(home, trained())
    monkeypatch.setattr(abandon, "abandon_instance", give_up)
    with output() as taken:
        assert _type(monkeypatch, taken, "abandon", "night") == 0
    assert done == ["gone"]


def test_where_stderr_is_closed_too_the_exit_code_is_the_jobs_own(
    home: Path, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``harness run night 2>&1 | head``."""
    del market
    _log(home, trained())
    monkeypatch.setattr(run, "run_job", _drive)
    with _closed_pipe() as taken:
        monkeypatch.setattr(sys, "stderr", taken)
        assert _type(monkeypatch, taken, "run", "night", "--plain") == GateHeld.exit_code


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_stop_that_nobody_reads_of_is_asked_for_until_it_is_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: Output
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, limits={"budget_usd": 2.0})
    world.run(until=Stage.LAUNCH)
    world.clock.turn(36_000)
    world.provider.break_("stop", ProviderUnavailable("503"), times=5)
    with (
        output() as taken,
        pytest.raises(GateHeld, match="the budget is"),
        open_reporter(LastingConsole(file=taken), True, clock=world.clock) as reporter,
    ):
        runner.run(world.context(), reporter, lambda _id, _file: None, agreement=RENTS)
    (instance,) = world.market.rented.values()
    assert instance.status is InstanceStatus.STOPPED
    assert world.kinds().count(InstanceStopped) == 1
    assert world.provider.count("stop") == 6


def test_nobody_is_asked_where_nobody_reads_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("4711\n"))
    with _closed_pipe() as taken, open_reporter(LastingConsole(file=taken), True, clock=FakeClock()) as reporter:
        console = LastingConsole(file=taken)
        assert confirming._typed(console, reporter, "4711", "type the instance id: ", "told") is None


def test_the_process_ends_with_its_own_code_and_nothing_more_is_said() -> None:
    """What the output's buffer still holds is not what the interpreter stumbles over at its exit."""
    script = "from harness.cli.screens import LastingConsole as C; c = C(); c.print('x' * 9999); c.print('y'); exit(7)"
    with _closed_pipe() as taken:
        ended = subprocess.run([sys.executable, "-c", script], stdout=taken, stderr=subprocess.PIPE, check=False)
    assert ended.returncode == 7
    assert ended.stderr.decode().splitlines() == [
        "nobody reads this command's output: it goes on without a word; Ctrl-C ends it"
    ]


@pytest.fixture
def failing(home: Path, market: Market, monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A job at work whose notifications raise what is put in here."""
    del market
    raised: list[BaseException] = []

    def send(*_: object) -> tuple[str, ...]:
        raise raised[0]

    _log(home, trained())
    monkeypatch.setattr("harness.notify.targets.send", send)
    monkeypatch.setattr(run, "run_job", _drive)
    return raised


@pytest.mark.parametrize("error", [SystemExit(1), RuntimeError("can't start new thread"), HarnessError("x")])
def test_a_notification_that_fails_in_any_way_changes_no_ending(
    failing: list[BaseException], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    failing.append(error)
    output = io.StringIO()
    assert _type(monkeypatch, output, "run", "night", "--plain") == GateHeld.exit_code
    assert f"a notification failed: {type(error).__name__}" in output.getvalue()


@pytest.mark.parametrize(
    ("error", "code", "told"), [(SystemExit(1), 1, "SystemExit"), (OSError(5, "gone"), 1, "OSError")]
)
def test_whatever_ends_a_command_unforeseen_is_told_elsewhere(
    home: Path,
    market: Market,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    error: BaseException,
    code: int,
    told: str,
) -> None:
    def drive(*_: object, **__: object) -> None:
        raise error

    del market
    _log(home, trained())
    monkeypatch.setattr(run, "run_job", drive)
    assert _type(monkeypatch, io.StringIO(), "run", "night", "--plain") == code
    (notice,) = (tmp_path / "notices").read_text(encoding="utf-8").splitlines()
    assert json.loads(notice)["occasion"] == "ended"
    assert f"ended by {told}" in notice
    assert f"Instance {INSTANCE} bills $16.00/h" in notice
