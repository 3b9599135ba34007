"""``harness watch``: what was forgotten is told by a line and a notification, once, and nothing is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from harness.cli import watch as watching
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, HarnessError, LogDamaged, ProviderUnavailable, StoreFailed
from harness.core.ids import InstanceId, JobName
from harness.core.ports import InstanceStatus, Provider
from harness.job.provider import ProviderTable
from harness.ledger.events import InstanceStopped, Opened
from harness.ledger.locks import sole
from harness.ledger.sql import SqlEventStore, open_store
from tests.support.fake_clock import FakeClock
from tests.support.faulty_provider import FaultyProvider
from tests.support.job_histories import INSTANCE, LABEL, Log, events_of, job, trained
from tests.support.scripted_world import Market
from tests.support.typing_commands import typing

Watch = Callable[..., tuple[int, str, str]]
CHANGES = ("start", "stop", "destroy", "create", "attach_key")


@pytest.fixture
def market() -> Market:
    return Market(FakeClock())


@pytest.fixture
def provider(market: Market) -> FaultyProvider:
    return FaultyProvider(market)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HARNESS_NOTIFY", raising=False)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def watch(
    home: Path, provider: FaultyProvider, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Watch:
    """Types ``harness watch`` with options, in a home in which every provider is the scripted one."""
    del home
    asked: list[ProviderTable] = []

    def opened(table: ProviderTable, *_: object) -> Provider:
        asked.append(table)
        return provider

    monkeypatch.setattr(watching, "open_provider", opened)

    command = typing(monkeypatch, capsys)

    def typed(*options: str, stops: int = 0) -> tuple[int, str, str]:
        said = command("watch", *options)
        assert [name for name in CHANGES if provider.count(name)] == ["stop"] * bool(stops), "it changes nothing else"
        assert provider.count("stop") == stops
        return said

    return typed


def _write(home: Path, log: Log, age_s: float = 3600.0) -> None:
    """A job whose newest event is so old."""
    clock = FakeClock(SystemClock().now() - age_s)
    store = open_store(home / "state.db", clock)
    for event in events_of(log.records):
        store.append(JobName(log.job.name), event)


def _notices(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def test_without_a_job_nothing_is_forgotten_and_nobody_asked(watch: Watch, provider: FaultyProvider) -> None:
    assert watch("--once") == (0, "", "")
    assert provider.calls == []


def test_a_job_that_is_over_is_not_remembered_but_its_account_is_looked_at(
    home: Path, watch: Watch, provider: FaultyProvider
) -> None:
    _write(home, Log().closed())
    assert watch("--once") == (0, "", "")
    assert provider.count("instances") > 0


def test_embedded_jobs_that_are_over_start_no_service(home: Path, watch: Watch, provider: FaultyProvider) -> None:
    _write(home, Log(job(provider={"kind": "emulated"})).closed())
    assert watch("--once")[0] == 0
    assert provider.calls == []


def test_a_running_instance_that_nobody_works_on_is_told(home: Path, watch: Watch, market: Market) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    code, out, err = watch("--once")
    assert code == 12
    assert "job night: no process here works on it" in out
    assert "bills $15.90/h" in out, "the price that the provider shows"
    assert "harness run night" in out
    assert "1 of what bills needs somebody" in err


def test_what_another_process_works_on_is_left_to_it(home: Path, watch: Watch, market: Market) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    with open_store(home / "state.db", SystemClock()).lock(JobName("night")):
        assert watch("--once")[:2] == (0, "")
    assert watch("--once")[0] == 12, "and the look has taken nobody's lock away"


def test_an_instance_in_no_ledger_is_told(home: Path, watch: Watch, market: Market) -> None:
    _write(home, Log().closed())
    market.add(999, "gsh-other-0a1b2c3d")
    market.add(998, "not ours")
    code, out, _ = watch("--once")
    assert code == 12
    assert "999" in out
    assert "ORPHAN" in out
    assert "998" not in out


def test_an_instance_that_was_proven_gone_and_lives_is_told(home: Path, watch: Watch, market: Market) -> None:
    _write(home, Log().closed())
    market.add(INSTANCE, LABEL)
    code, out, _ = watch("--once")
    assert (code, "has proven that it is gone, and it lives" in out) == (12, True)


def test_a_provider_that_cannot_be_asked_hides_no_job(home: Path, watch: Watch, provider: FaultyProvider) -> None:
    _write(home, trained())
    provider.break_("instances", ProviderUnavailable("502"), times=0)
    code, out, err = watch("--once")
    assert code == 12
    assert "job night: no process here works on it" in out
    assert "could not be looked at: 502" in " ".join(err.split())


def test_what_could_not_be_looked_at_is_no_all_clear(home: Path, watch: Watch, provider: FaultyProvider) -> None:
    _write(home, Log().closed())
    provider.break_("volumes", ProviderUnavailable("502"), times=0)
    code, _, err = watch("--once")
    assert (code, "volumes at provider vast could not be looked at: 502" in " ".join(err.split())) == (7, True)


def test_a_stopped_instance_is_remembered_after_the_hours_that_are_asked_for(
    home: Path, watch: Watch, market: Market
) -> None:
    _write(home, trained(), 3600.0)
    market.add(INSTANCE, LABEL, InstanceStatus.STOPPED)
    assert watch("--once")[0] == 0
    code, out, _ = watch("--once", "--after", "0.5")
    assert (code, "stands still for 1 h 00 min" in out) == (12, True)


def test_people_are_told_once_and_again_after_the_hours_that_are_asked_for(
    home: Path, watch: Watch, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    file = home / "notices"
    monkeypatch.setenv("HARNESS_NOTIFY", file.as_uri())
    assert [watch("--once")[0] for _ in range(3)] == [12, 12, 12]
    (notice,) = _notices(file)
    assert notice["occasion"] == "still billing"
    assert "job night: no process here works on it" in notice["body"]
    watch("--once", "--again", "0")
    assert len(_notices(file)) == 2
    market.add(999, "gsh-other-0a1b2c3d")
    watch("--once")
    assert ["999" in one["body"] for one in _notices(file)] == [False, False, True]


def test_what_was_over_and_comes_back_is_told_anew(
    home: Path, watch: Watch, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(home, Log().closed())
    file = home / "notices"
    monkeypatch.setenv("HARNESS_NOTIFY", file.as_uri())
    for shows in (True, False, True):
        market.rented.clear()
        if shows:
            market.add(999, "gsh-other-0a1b2c3d")
        watch("--once")
    assert len(_notices(file)) == 2


def test_what_reached_nobody_counts_as_not_told(
    home: Path, watch: Watch, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    file = home / "later" / "notices"
    monkeypatch.setenv("HARNESS_NOTIFY", file.as_uri())
    code, out, _ = watch("--once")
    assert (code, "did not reach target 1 (file)" in out) == (12, True)
    file.parent.mkdir()
    watch("--once")
    assert len(_notices(file)) == 1


def test_the_targets_of_a_jobs_file_are_told_too(home: Path, watch: Watch, market: Market, tmp_path: Path) -> None:
    file, notices = tmp_path / "night.toml", tmp_path / "notices"
    file.write_text(
        f"name = 'night'\nprofile = 'forex-r1-v3'\npackage.source = '{tmp_path}'\n"
        f"[notify]\nurls = ['{notices.as_uri()}']\n",
        encoding="utf-8",
    )
    log = Log()
    log.add(Opened(log.job.model_dump(mode="json"), str(file)))
    _write(home, log.trained())
    market.add(INSTANCE, LABEL)
    assert watch("--once")[0] == 12
    assert len(_notices(notices)) == 1
    assert notices.as_uri() not in (home / "state.db").read_bytes().decode("latin-1")


def test_a_damaged_memory_tells_once_more(
    home: Path, watch: Watch, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    monkeypatch.setenv("HARNESS_NOTIFY", (home / "notices").as_uri())
    for text in ("{", "[1]", '{"night running": "soon"}'):
        (home / "watch.json").write_text(text, encoding="utf-8")
        assert watch("--once")[0] == 12
    assert len(_notices(home / "notices")) == 3


def test_one_watches_a_home(home: Path, watch: Watch) -> None:
    with sole(home, "watch", "the jobs of this home are being watched", SystemClock()):
        code, _, err = watch("--once")
    assert (code, "the jobs of this home are being watched by process" in " ".join(err.split())) == (10, True)


def test_the_resident_tells_what_is_new_until_it_is_interrupted(
    home: Path, watch: Watch, market: Market, provider: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three looks: one of them fails, and ends nothing."""
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    provider.break_("instances", ProviderUnavailable("502"), after=2, times=1)
    rounds: list[float] = []

    def sleep(_: SystemClock, seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(SystemClock, "sleep", sleep)
    code, out, _ = watch("--every", "5")
    assert code == 130
    assert rounds == [300.0, 300.0, 300.0]
    assert out.count("job night: no process here works on it") == 1
    assert "could not be looked at: 502" in out


def test_an_instance_that_runs_again_is_told_at_once_with_the_price_that_is_shown(
    home: Path, watch: Watch, market: Market
) -> None:
    _write(home, trained().add(InstanceStopped(INSTANCE, "the budget is used up")), 1.0)
    market.add(INSTANCE, LABEL)
    code, out, _ = watch("--once")
    assert (code, "bills $15.90/h" in out, "disk" in out) == (12, True, False)


def test_an_instance_that_is_not_listed_is_told_with_no_price(home: Path, watch: Watch) -> None:
    _write(home, trained())
    code, out, _ = watch("--once")
    assert (code, "is not in the provider's list" in out, "$" in out) == (12, True, False)


@pytest.mark.parametrize("broken", ["key", "instances", "store"])
def test_a_watch_that_cannot_look_says_so_once(
    home: Path, watch: Watch, provider: FaultyProvider, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Not at the first look nor the second: what is over by the third was none of theirs."""
    _write(home, Log().closed())
    monkeypatch.setenv("HARNESS_NOTIFY", (home / "notices").as_uri())

    def fail(*_: object) -> NoReturn:
        raise (StoreFailed if broken == "store" else BadInput)("401: the key has expired")

    if broken == "instances":
        provider.break_("instances", ProviderUnavailable("401: the key has expired"), times=0)
    else:
        monkeypatch.setattr(watching, "open_ledger" if broken == "store" else "open_provider", fail)
    codes = [watch("--once")[0] for _ in range(2)]
    assert _notices(home / "notices") == []
    codes += [watch("--once")[0] for _ in range(3)]
    assert codes == [10 if broken == "store" else 7] * 5
    (notice,) = _notices(home / "notices")
    assert notice["occasion"] == "cannot look"
    assert "401: the key has expired" in notice["body"]
    assert notice["body"].startswith("3 looks in a row did not see everything")


def test_looks_that_fail_now_and_then_are_none_in_a_row(
    home: Path, watch: Watch, provider: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(home, Log().closed())
    monkeypatch.setenv("HARNESS_NOTIFY", (home / "notices").as_uri())
    for _ in range(3):
        provider.break_("volumes", ProviderUnavailable("502"), times=2)
        assert [watch("--once")[0] for _ in range(3)] == [7, 7, 0]
        provider.faults.clear()
    assert _notices(home / "notices") == []


def test_what_cannot_be_seen_for_a_while_is_not_told_anew_after_it(
    home: Path, watch: Watch, market: Market, provider: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(home, Log().closed())
    market.add(999, "gsh-other-0a1b2c3d")
    monkeypatch.setenv("HARNESS_NOTIFY", (home / "notices").as_uri())
    watch("--once")
    provider.break_("instances", ProviderUnavailable("502"), times=0)
    watch("--once")
    provider.faults.clear()
    watch("--once")
    assert len(_notices(home / "notices")) == 1


def test_a_test_reaches_every_target(home: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    assert watch("--test")[0] == 2
    monkeypatch.setenv("HARNESS_NOTIFY", f"{(home / 'a').as_uri()} {(home / 'b').as_uri()}")
    assert watch("--test")[:2] == (0, "told 2 of 2 targets\n")
    assert [one["occasion"] for one in _notices(home / "b")] == ["test"]
    monkeypatch.setenv("HARNESS_NOTIFY", (home / "no" / "a").as_uri())
    assert watch("--test")[0] == 2


def test_a_target_that_cannot_be_used_is_said_at_once(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_NOTIFY", "nonsense")
    code, _, err = watch("--once")
    assert (code, "target 1 is no URL" in " ".join(err.split()), "nonsense" in err) == (2, True, False)


def _limit(home: Path, text: str) -> None:
    (home / "limits.toml").write_text(text, encoding="utf-8")


def test_what_is_over_the_limits_is_stopped_and_told_and_recorded(
    home: Path, watch: Watch, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    monkeypatch.setenv("HARNESS_NOTIFY", (home / "notices").as_uri())
    _limit(home, "per_hour = 10\n")
    code, out, _ = watch("--once", stops=1)
    assert code == 12
    assert "limits.toml: per_hour = 10: $15.90 bill by the hour now" in out
    assert f"instance {INSTANCE} ({LABEL}; job night" in out
    assert "was stopped, its disk kept" in out
    assert market.rented[INSTANCE].status is InstanceStatus.STOPPED
    store = open_store(home / "state.db", SystemClock())
    assert isinstance(events_of(store.records(JobName("night")))[-1], InstanceStopped)
    assert "was stopped" in _notices(home / "notices")[0]["body"]
    assert watch("--once", stops=1)[0] == 0, "what stands still is not stopped again, nor over"


def test_what_shows_again_after_its_end_was_proven_is_stopped_and_a_closed_log_stays_closed(
    home: Path, watch: Watch, market: Market
) -> None:
    _write(home, Log().closed())
    market.add(INSTANCE, LABEL)
    _limit(home, "per_hour = 10\n")
    store = open_store(home / "state.db", SystemClock())
    before = len(store.records(JobName("night")))
    assert "was stopped, its disk kept" in watch("--once", stops=1)[1]
    assert len(store.records(JobName("night"))) == before


def test_within_the_limits_nothing_is_touched(home: Path, watch: Watch, market: Market) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    _limit(home, "per_hour = 15.9\nper_day = 1000\n")
    assert "limits.toml" not in watch("--once")[1]


def test_the_newest_that_is_ours_is_stopped_and_what_is_not_is_counted(
    home: Path, watch: Watch, market: Market
) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    market.add(998, "by hand")
    market.add(999, "gsh-other-0a1b2c3d")
    _limit(home, "per_hour = 20\n")
    _, out, _ = watch("--once", stops=1)
    assert "$47.70 bill by the hour now" in out
    assert [one.status for one in market.rented.values()].count(InstanceStatus.STOPPED) == 1
    assert market.rented[INSTANCE].status is InstanceStatus.STOPPED
    _, out, _ = watch("--once", stops=1)
    assert "nothing runs that may be stopped (stop = 'ours')" in out
    _limit(home, "per_hour = 20\nstop = 'labelled'\n")
    watch("--once", stops=2)
    assert market.rented[InstanceId(999)].status is InstanceStatus.STOPPED
    assert market.rented[InstanceId(998)].status is InstanceStatus.RUNNING


def test_a_job_that_a_process_drives_is_stopped_too_and_its_log_left_to_it(
    home: Path, watch: Watch, market: Market
) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    _limit(home, "per_hour = 10\n")
    store = open_store(home / "state.db", SystemClock())
    before = len(store.records(JobName("night")))
    with store.lock(JobName("night")):
        watch("--once", stops=1)
    assert market.rented[INSTANCE].status is InstanceStatus.STOPPED
    assert len(store.records(JobName("night"))) == before


def test_a_bill_that_cannot_be_read_is_said_and_what_is_surely_over_is_over(
    home: Path, watch: Watch, market: Market, provider: FaultyProvider
) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    provider.break_("bills", ProviderUnavailable("502"), times=0)
    _limit(home, "per_month = 1000\n")
    _, out, err = watch("--once")
    assert "limits.toml" not in out
    assert "what was charged could not be looked at: 502" in " ".join(err.split())
    _limit(home, "per_month = 0.01\n")
    _, out, _ = watch("--once", stops=1)
    assert "limits.toml: per_month = 0.01" in out


def test_a_bill_that_cannot_be_read_hides_nothing_that_is_listed(
    home: Path, watch: Watch, market: Market, provider: FaultyProvider
) -> None:
    market.add(999, "gsh-other-0a1b2c3d")
    provider.break_("bills", ProviderUnavailable("502"), times=0)
    _limit(home, "per_hour = 10\nper_month = 1000\nproviders = ['vast']\nstop = 'labelled'\n")
    assert "per_hour = 10: $15.90 bill by the hour now" in watch("--once", stops=1)[1]
    assert market.rented[InstanceId(999)].status is InstanceStatus.STOPPED


def test_a_stop_that_does_not_take_is_told_and_asked_for_again(
    home: Path, watch: Watch, market: Market, provider: FaultyProvider
) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    _limit(home, "per_hour = 10\n")
    provider.break_("stop", ProviderUnavailable("429"))
    code, out, _ = watch("--once", stops=1)
    assert (code, "was NOT stopped: 429" in out) == (12, True)
    assert "was stopped, its disk kept" in watch("--once", stops=2)[1]


def test_what_was_forgotten_is_told_though_the_limits_do_not_read(
    home: Path, watch: Watch, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    monkeypatch.setenv("HARNESS_NOTIFY", (home / "notices").as_uri())
    _limit(home, "per_hour = ten\n")
    code, out, err = watch("--once")
    assert (code, "limits.toml does not read" in " ".join(err.split())) == (2, True)
    assert "job night: no process here works on it" in out
    assert "job night" in _notices(home / "notices")[0]["body"]


@pytest.mark.parametrize("error", [StoreFailed("no room"), LogDamaged("the log of job night is damaged")])
def test_a_stop_that_cannot_be_recorded_keeps_no_other_from_being_stopped(
    error: HarnessError, home: Path, watch: Watch, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    market.add(999, "gsh-other-0a1b2c3d")
    _limit(home, "per_hour = 1\nstop = 'labelled'\n")

    def fails(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(SqlEventStore, "append", fails)
    code, out, _ = watch("--once", stops=2)
    assert code == 12
    assert [one.status for one in market.rented.values()] == [InstanceStatus.STOPPED] * 2
    assert out.count("was stopped, its disk kept: per_hour = 1: $31.80 bill by the hour now") == 2
    assert f"bill by the hour now; job night could not record it: {error}" in out


@pytest.mark.parametrize("at", ["1e12", "NaN", "Infinity"])
def test_a_memory_from_a_clock_that_ran_ahead_keeps_nothing_from_being_told(
    at: str, home: Path, watch: Watch, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    monkeypatch.setenv("HARNESS_NOTIFY", (home / "notices").as_uri())
    watch("--once")
    told = _notices(home / "notices")
    memory = json.loads((home / "watch.json").read_text(encoding="utf-8"))
    (home / "watch.json").write_text(
        "{" + ", ".join(f"{json.dumps(key)}: {at}" for key in memory) + "}", encoding="utf-8"
    )
    watch("--once")
    assert len(_notices(home / "notices")) == 2 * len(told)


@pytest.mark.parametrize("option", ["--every=inf", "--every=nan", "--every=1e300", "--after=nan", "--again=nan"])
def test_a_time_that_is_none_is_refused(option: str, watch: Watch) -> None:
    assert watch(option, "--once")[0] == 2


def test_limits_that_are_gone_are_told_once(
    home: Path, watch: Watch, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_NOTIFY", (home / "no" / "notices").as_uri())
    market.add(999, "by hand")
    assert "limits.toml" not in watch("--once")[1]
    _limit(home, "per_hour = 100\n")
    watch("--once")
    _limit(home, "per_hour = oops\n")
    assert "is gone" not in watch("--once")[1]
    (home / "limits.toml").unlink()
    assert "limits.toml is gone (it was there at 20" in watch("--once")[1], "it is told, and nobody is reached"
    (home / "no").mkdir()
    assert "limits.toml is gone" in watch("--once")[1]
    assert [one["title"] for one in _notices(home / "no" / "notices")] == ["limits.toml is gone"]
    assert "limits.toml is gone" not in watch("--once")[1], "whoever took it away knows by now"


def test_limits_that_do_not_read_are_no_all_clear(home: Path, watch: Watch, market: Market) -> None:
    _write(home, trained())
    market.add(INSTANCE, LABEL)
    _limit(home, "per_hour = ten\n")
    code, out, err = watch("--once")
    assert code == 2, (out, err)
    assert "limits.toml does not read" in " ".join(err.split())


def test_an_account_that_is_named_is_held_to_the_limits_with_an_empty_ledger(
    home: Path, watch: Watch, market: Market, provider: FaultyProvider
) -> None:
    """The ledger is lost, and the instances go on."""
    market.add(999, "gsh-other-0a1b2c3d")
    _limit(home, "per_hour = 10\n")
    assert watch("--once")[0] == 0
    assert provider.calls == [], "nobody says where to look"
    _limit(home, "per_hour = 10\nproviders = ['vast']\nstop = 'labelled'\n")
    code, out, _ = watch("--once", stops=1)
    assert (code, "instance 999 (gsh-other-0a1b2c3d; ORPHAN" in out) == (12, True)
    assert market.rented[InstanceId(999)].status is InstanceStatus.STOPPED
