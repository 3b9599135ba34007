"""Every way in which a command ends says what still bills and the command that ends that, true for where the job is."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import abandon, adopt, run, teardown, transfer
from harness.core.clock import SystemClock
from harness.core.errors import GateHeld, HarnessError, InstanceDead, Refused
from harness.core.ids import JobName, Sha256
from harness.core.lifecycle import Stage
from harness.ledger.events import BudgetNear, Held, InstanceStopped, RentIntended
from harness.ledger.sql import open_store
from harness.runner.run import open_job
from harness.wiring import OpenContext
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import INSTANCE, LABEL, Log, events_of, job, trained
from tests.support.scripted_world import Market
from tests.support.typing_commands import typing

Ask = Callable[..., tuple[int, str]]
STOPPED = InstanceStopped(INSTANCE, "the budget is used up")
EMBEDDED = job(provider={"kind": "emulated"})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HARNESS_NOTIFY", raising=False)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def ask(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Types a command over a job that has come so far: its exit code and all that it said, on one line."""
    market = Market(FakeClock())
    market.add(INSTANCE, LABEL)
    monkeypatch.setattr(OpenContext, "provider", lambda _: market)
    monkeypatch.setattr(OpenContext, "host", lambda _: pytest.fail("the box was asked"))
    command = typing(monkeypatch, capsys)

    def typed(log: Log, *words: str) -> tuple[int, str]:
        store = open_store(home / "state.db", SystemClock())
        if not store.jobs():
            for event in events_of(log.records):
                store.append(JobName(log.job.name), event)
        code, out, err = command(*words)
        return code, " ".join((out + err).split())

    return typed


def _raising(error: BaseException) -> Callable[..., None]:
    def drive(*_: Any, **__: Any) -> None:
        raise error

    return drive


WAYS: list[tuple[Any, tuple[str, ...]]] = [
    (run, ("run", "night", "--plain")),
    (teardown, ("destroy", "night", "--yes", "--plain")),
    (transfer, ("download", "night", "--plain")),
]
"""A command's module, and what is typed."""


def _ready(words: tuple[str, ...]) -> Log:
    """A job that this command works on."""
    return Log().verified() if words[0] == "destroy" else trained()


@pytest.mark.parametrize(("module", "words"), WAYS, ids=[way[1][0] for way in WAYS])
@pytest.mark.parametrize(
    ("error", "code"),
    [(GateHeld("three checks failed"), 3), (InstanceDead("it is offline"), 7), (KeyboardInterrupt(), 130)],
    ids=["held", "dead", "Ctrl-C"],
)
def test_whatever_ends_a_command_what_bills_is_said(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, *, module: Any, words: tuple[str, ...], error: BaseException, code: int
) -> None:
    monkeypatch.setattr(module, "run_job", _raising(error))
    seen, said = ask(_ready(words), *words)
    assert seen == code
    assert f"Instance {INSTANCE} bills $16.00/h." in said
    assert ("harness destroy night" if words[0] == "destroy" else "harness run night goes on") in said
    assert not re.search(r"\bJOB\b", said), said
    assert "nothing is lost" not in said


def test_a_refused_destroy_says_what_bills(ask: Ask) -> None:
    code, said = ask(trained(), "destroy", "night", "--yes")
    assert code == Refused.exit_code
    assert f"Instance {INSTANCE} bills $16.00/h. harness run night goes on" in said
    assert "harness run night brings it home and verifies it first" in said
    assert "JOB" not in said


def test_a_refused_abandonment_says_what_bills(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abandon, "abandon_instance", _raising(Refused("it holds a checkpoint")))
    code, said = ask(trained(), "abandon", "night")
    assert (code, f"Instance {INSTANCE} bills $16.00/h." in said) == (Refused.exit_code, True)


def test_an_adoption_that_is_held_says_what_bills(ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its job has no job file: no remedy names ``harness run``."""
    file = tmp_path / "night.toml"
    file.write_text(f"name = 'night'\nprofile = 'forex-r1-v3'\npackage.source = '{tmp_path}'\n", encoding="utf-8")
    monkeypatch.setattr(adopt, "open_provider", lambda *_: _market())
    monkeypatch.setattr(OpenContext, "provider", lambda _: _market())
    monkeypatch.setattr(
        adopt, "run_job", _raising(HarnessError("x", remedy="harness run JOB goes on; harness status JOB"))
    )
    code, said = ask(Log().closed(), "adopt", "--instance-id", "4711777", "--job-file", str(file))
    assert code == 1
    assert "Instance 4711777 bills $15.90/h" in said
    assert "harness destroy night-4711777 goes on; harness status night-4711777" in said
    assert "harness run" not in said


def _market() -> Market:
    market = Market(FakeClock())
    market.add(4711777, None)
    return market


@pytest.mark.parametrize(
    ("log", "told", "not_told"),
    [
        (trained().add(STOPPED), "is stopped: only its disk bills", "bills $16.00/h"),
        (trained().add(STOPPED), "five more minutes to look again cost nothing but its disk", "cost $1.33"),
        (trained(), "five more minutes to look again cost $1.33", "disk alone"),
        (trained(EMBEDDED), "bills $16.00/h (embedded: no real money).", "bills $16.00/h."),
        (trained(EMBEDDED), "cost $1.33 (embedded: no real money)", "cost $1.33 Instance"),
        (Log(), "harness run night", "bills"),
        (Log(EMBEDDED), "the provider is embedded: every $ is reckoned, and no real money is paid", "bills"),
        (Log(), "harness run night", "embedded"),
    ],
)
def test_the_money_that_is_told_is_that_of_the_state(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, log: Log, told: str, not_told: str
) -> None:
    monkeypatch.setattr(run, "run_job", _raising(GateHeld("held", remedy="then: harness run JOB")))
    _, said = ask(log, "run", "night", "--plain")
    assert told in said
    assert not_told not in said


def test_a_run_up_to_a_stage_ends_with_what_bills(ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "run_job", lambda *_, **__: None)
    model = tmp_path / "m.gguf"
    model.write_bytes(b"whole")
    digest = Sha256(hashlib.sha256(b"whole").hexdigest())
    code, said = ask(
        Log().verified(path=str(model), size=5, sha256=digest), "run", "night", "--plain", "--until", "postdownload"
    )
    assert code == 0
    assert f"Instance {INSTANCE} bills $16.00/h. harness destroy night ends it" in said
    assert f"file: {model} size: 5 B (5 bytes) SHA-256: {digest}" in said
    assert "report: " in said


def test_a_closed_job_ends_with_its_file_and_nothing_that_bills(ask: Ask) -> None:
    code, said = ask(Log().closed(), "run", "night", "--plain")
    assert code == 0
    assert "job night: CLOSED." in said
    assert "cost: $" in said
    assert f"instance {INSTANCE}: gone since" in said
    assert "bills" not in said


def _ending(number: int) -> Callable[..., None]:
    def drive(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            time.sleep(0.01)
        pytest.fail("the signal did nothing")

    return drive


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without a word")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_command_with_what_bills_and_tells_people(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, code: int
) -> None:
    file = tmp_path / "notices"
    monkeypatch.setenv("HARNESS_NOTIFY", file.as_uri())
    monkeypatch.setattr(run, "run_job", _ending(number))
    before = signal.getsignal(number)
    seen, said = ask(trained(), "run", "night", "--plain")
    assert seen == code
    assert f"Instance {INSTANCE} bills $16.00/h." in said
    assert f"interrupted by {signal.Signals(number).name}" in said
    assert "ended by " + signal.Signals(number).name in file.read_text(encoding="utf-8")
    assert signal.getsignal(number) is before


def test_ctrl_c_tells_nobody_elsewhere(ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_NOTIFY", (tmp_path / "notices").as_uri())
    monkeypatch.setattr(run, "run_job", _raising(KeyboardInterrupt()))
    assert ask(trained(), "run", "night", "--plain")[0] == 130
    assert not (tmp_path / "notices").exists()


def test_what_is_recorded_is_told_elsewhere_as_it_happens(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def drive(context: OpenContext, *_: Any, **__: Any) -> None:
        context.record(BudgetNear(16.0, 20.0))
        context.record(Held(Stage.TRAINING, "GateHeld", "loss_is_sane"))
        raise GateHeld("loss_is_sane")

    file = tmp_path / "notices"
    monkeypatch.setenv("HARNESS_NOTIFY", f"{file.as_uri()} {(tmp_path / 'no' / 'x').as_uri()}")
    monkeypatch.setattr(run, "run_job", drive)
    code, said = ask(trained(), "run", "night", "--plain")
    assert code == 3
    assert [line.split('"')[5] for line in file.read_text(encoding="utf-8").splitlines()] == ["cap near", "held"]
    assert said.count("did not reach target 2 (file)") == 2


def test_before_a_rent_a_target_that_cannot_be_used_stops_the_command(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_NOTIFY", "hunter2")
    monkeypatch.setattr(run, "run_job", _raising(AssertionError("it went on")))
    code, said = ask(Log(), "run", "night", "--plain")
    assert (code, "target 1 is no URL" in said, "hunter2" in said) == (2, True, False)


@pytest.mark.parametrize(
    "log",
    [
        trained(),
        Log().add(RentIntended(LABEL, {"usd_per_hour": 16.0}, 7)),
        Log().add(Held(Stage.PROVISION, "AmbiguousCreate", "the reply was lost")),
        Log().add(Held(Stage.PREFLIGHT, "Unaccounted", "something has its label")),
    ],
    ids=["rented", "a rent without an outcome", "a lost reply", "unaccounted"],
)
def test_where_something_may_bill_it_stops_nothing(ask: Ask, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    monkeypatch.setenv("HARNESS_NOTIFY", "hunter2")
    monkeypatch.setattr(run, "run_job", lambda *_, **__: None)
    code, said = ask(log, "run", "night", "--plain")
    assert (code, "hunter2" in said) == (0, False)


def test_the_urls_of_a_job_file_are_in_no_record(home: Path, tmp_path: Path) -> None:
    from harness.job.load import load_job

    file = tmp_path / "night.toml"
    file.write_text(
        f"name = 'night'\nprofile = 'forex-r1-v3'\npackage.source = '{tmp_path}'\n"
        "[notify]\nurls = ['ntfys://hunter2']\n",
        encoding="utf-8",
    )
    described = load_job(file)
    assert described.notify.urls == ("ntfys://hunter2",)
    assert "hunter2" not in repr(described) + described.model_dump_json()
    open_job(open_store(home / "state.db", SystemClock()), described, file, accept_changes=False)
    assert b"hunter2" not in (home / "state.db").read_bytes()


@pytest.mark.parametrize("line", ["url = 'ntfys://hunter2'", "urls = 'ntfys://hunter2'", "urls = [{ a = 'hunter2' }]"])
def test_a_mistake_beside_a_url_does_not_show_it(ask: Ask, tmp_path: Path, line: str) -> None:
    file = tmp_path / "night.toml"
    file.write_text(f"name = 'night'\nprofile = 'forex-r1-v3'\n[notify]\n{line}\n", encoding="utf-8")
    code, said = ask(Log(), "run", str(file), "--plain")
    assert (code, "notify." in said, "hunter2" in said) == (2, True, False)
