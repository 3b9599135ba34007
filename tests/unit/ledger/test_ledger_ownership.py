"""Whose what bills is: told from the logs of all jobs, and never guessed where a list is not whole."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.cli import orphans as cli
from harness.cli.orphans import BillingRow, survey
from harness.core.clock import SystemClock
from harness.core.errors import LogDamaged, ProviderUnavailable
from harness.core.ids import InstanceId, JobName, VolumeId
from harness.core.lifecycle import Stage
from harness.core.observed import Observed
from harness.core.ports import Bill, Volume
from harness.facts import teardown
from harness.job.provider import ProviderTable
from harness.ledger.events import Abandoned, Destroyed, DestroyIntended, Lost, RentFailed, RentIntended
from harness.ledger.kinds import JobEvent
from harness.ledger.ownership import Known, Standing, known
from harness.ledger.sql import open_store
from tests.support import job_histories
from tests.support.context import World, make_world
from tests.support.fake_clock import FakeClock
from tests.support.faulty_provider import FaultyProvider
from tests.support.job_histories import INSTANCE, LABEL, Log
from tests.support.scripted_world import Market

VAST = ProviderTable(kind="vast")
OURS = InstanceId(INSTANCE)
PROOF = {"looks": [{"at": 1.0, "usd": 9.0, "charges": 2}, {"at": 61.0, "usd": 9.0, "charges": 2}]}


@pytest.fixture
def market() -> Market:
    return Market(FakeClock(job_histories.BEGAN))


@pytest.fixture
def provider(market: Market) -> FaultyProvider:
    return FaultyProvider(market)


def _volume(number: int, label: str | None = None, *users: InstanceId) -> Volume:
    return Volume(VolumeId(number), label, 12, 20.0, 0.004, users)


def _gone(
    billing: Mapping[str, Any] | None = None, volumes: tuple[VolumeId, ...] = (), gone: JobEvent | None = None
) -> Known:
    """A job whose instance was proven to be gone."""
    log = Log().rented()
    log.add(DestroyIntended(INSTANCE, release=None, volumes=volumes))
    log.add(gone or Destroyed(INSTANCE, {}, billing))
    return known([log.history], VAST)


def _alive() -> Known:
    return known([Log().rented().history], VAST)


def _only(rows: Observed[tuple[BillingRow, ...]]) -> BillingRow:
    (row,) = rows.get()
    return row


def test_an_instance_of_a_job_at_work_is_that_jobs(market: Market, provider: FaultyProvider) -> None:
    market.add(INSTANCE, LABEL)
    row = _only(survey(provider, _alive())["instances"])
    assert (row.standing, row.whose) == (Standing.OWNED, "job night, at stage provision")
    assert row.usd == 1.0
    assert survey(provider, _alive())["costs"].get() == ()


def test_an_instance_in_no_log_is_an_orphan_or_a_stranger(market: Market, provider: FaultyProvider) -> None:
    market.add(5, "gsh-other-00000000")
    market.add(6, "web server")
    found = survey(provider, _alive())["instances"].get()
    assert [row.standing for row in found] == [Standing.ORPHAN, Standing.STRANGER, Standing.FORGOTTEN]


@pytest.mark.parametrize(
    "gone",
    [
        Destroyed(INSTANCE, {}, PROOF),
        Abandoned(INSTANCE, {}, PROOF),
        Lost(INSTANCE, "typed yes", machine_id=12, package=None, absence={}, billing=PROOF),
    ],
)
def test_an_instance_that_was_proven_gone_and_lives_is_forgotten(
    market: Market, provider: FaultyProvider, gone: JobEvent
) -> None:
    market.add(INSTANCE, LABEL)
    row = _only(survey(provider, _gone(gone=gone))["instances"])
    assert row.standing is Standing.FORGOTTEN
    assert "has proven that it is gone, and it lives" in row.whose


def test_an_instance_of_a_rent_that_was_cut_off_is_the_jobs_that_began_it(
    market: Market, provider: FaultyProvider
) -> None:
    market.add(INSTANCE, LABEL)
    log = Log()
    log.add(RentIntended(label=LABEL, offer={}, owner=7))
    row = _only(survey(provider, known([log.history], VAST))["instances"])
    assert (row.standing, "cut off while it rented" in row.whose) == (Standing.OWNED, True)
    log.add(RentFailed(label=LABEL, why="no instance carries the label"))
    row = _only(survey(provider, known([log.history], VAST))["instances"])
    assert row.standing is Standing.ORPHAN


def test_an_instance_that_a_log_believes_alive_and_nobody_lists_is_told(provider: FaultyProvider) -> None:
    row = _only(survey(provider, _alive())["instances"])
    assert (InstanceId(row.id), row.status, row.standing) == (INSTANCE, "not listed", Standing.FORGOTTEN)


def test_another_providers_numbers_mean_other_things(market: Market, provider: FaultyProvider) -> None:
    """The embedded service's numbers are not Vast.ai's: a demo does not answer for a real machine."""
    market.add(INSTANCE, "gsh-other-00000000")
    here = known([Log(job_histories.job(provider={"kind": "emulated"})).rented().history], VAST)
    assert _only(survey(provider, here)["instances"]).standing is Standing.ORPHAN


def test_volumes_are_whose_instance_they_are_in(market: Market, provider: FaultyProvider) -> None:
    market.add(INSTANCE, LABEL)
    market.stored = [_volume(1, None, OURS), _volume(2, "gsh-x-00000000"), _volume(3, "mine")]
    found = survey(provider, _alive())["volumes"].get()
    assert [row.standing for row in found] == [Standing.OWNED, Standing.ORPHAN, Standing.STRANGER]
    assert found[0].whose == f"in use by instance {INSTANCE} of job night"


def test_a_volume_of_an_instance_that_is_gone_is_forgotten(market: Market, provider: FaultyProvider) -> None:
    market.stored = [_volume(7)]
    row = _only(survey(provider, _gone(PROOF, volumes=(VolumeId(7),)))["volumes"])
    assert row.standing is Standing.FORGOTTEN
    assert "name 7 in provider.kept_volumes" in row.whose


COSTS: list[tuple[str, Known, Bill, Standing | None, str]] = [
    ("accounted for", _gone(PROOF), Bill("instance", INSTANCE, LABEL, 9.0, 1e9), None, ""),
    ("rounded", _gone(PROOF), Bill("instance", INSTANCE, LABEL, 9.004, 1e9), None, ""),
    ("goes on", _gone(PROOF), Bill("instance", INSTANCE, LABEL, 9.5, 1e9), Standing.FORGOTTEN, "it goes on: $9.00"),
    ("never proven", _gone(), Bill("instance", INSTANCE, LABEL, 9.0, 1e9), Standing.FORGOTTEN, "was never proven"),
    ("nobody's", _alive(), Bill("instance", 5, "gsh-x-1", 3.0, 1e9), Standing.ORPHAN, "in no ledger here"),
    ("a stranger's", _alive(), Bill("instance", 5, None, 3.0, 1e9), Standing.STRANGER, "until 2001-09-09"),
    ("a volume's", _gone(volumes=(VolumeId(7),)), Bill("volume", 7, None, 3.0, 1e9), Standing.FORGOTTEN, "job night"),
    ("a volume like ours", _gone(PROOF), Bill("volume", INSTANCE, None, 3.0, 1e9), Standing.STRANGER, "not this"),
    ("something else", _gone(PROOF), Bill("serverless", INSTANCE, None, 3.0, 1e9), Standing.STRANGER, "not this"),
]


@pytest.mark.parametrize(("found", "bill", "standing", "told"), [case[1:] for case in COSTS], ids=[c[0] for c in COSTS])
def test_costs_of_what_is_gone(
    provider: FaultyProvider, found: Known, bill: Bill, standing: Standing | None, told: str
) -> None:
    provider.break_("bills", (bill,))
    rows = survey(provider, found)["costs"].get()
    assert [row.standing for row in rows] == ([] if standing is None else [standing])
    assert all(told in row.whose for row in rows)


def test_what_is_listed_is_told_once(market: Market, provider: FaultyProvider) -> None:
    market.add(5, "gsh-x-00000000")
    market.stored = [_volume(7)]
    provider.break_("bills", (Bill("instance", 5, None, 3.0, 1.0), Bill("volume", 7, None, 0.5, 1.0)), times=0)
    found = survey(provider, Known())
    assert (_only(found["instances"]).usd, _only(found["volumes"]).usd) == (3.0, 0.5)
    assert found["costs"].get() == ()


@pytest.mark.parametrize(
    ("method", "unknown"),
    [("instances", {"instances", "costs"}), ("volumes", {"volumes", "costs"}), ("bills", {"costs"})],
)
def test_a_list_that_cannot_be_had_is_unknown_and_not_none(
    market: Market, provider: FaultyProvider, method: str, unknown: set[str]
) -> None:
    market.add(5, "gsh-x-00000000")
    provider.break_(method, ProviderUnavailable("answered 502"), times=0)
    found = survey(provider, Known())
    assert {name for name, rows in found.items() if rows.problem == "answered 502"} == unknown
    if method == "bills":
        assert _only(found["instances"]).usd is None


def test_a_log_that_does_not_read_leaves_it_open_whose_things_are(market: Market, provider: FaultyProvider) -> None:
    market.add(5, "gsh-x-00000000")
    market.add(6, "web server")
    found = survey(provider, Known(unreadable=(JobName("other"),)))
    assert all("or of job other, whose log does not read" in row.whose for row in found["instances"].get())
    assert not any("--job-file" in row.whose for row in found["instances"].get()), "destroy refuses until the log reads"
    assert "job other" not in survey(provider, _alive())["instances"].get()[0].whose


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = make_world(tmp_path, monkeypatch, fast=True)
    made.run(until=Stage.POSTDOWNLOAD)
    return made


def test_the_guard_notes_the_volumes_that_it_leaves_behind(world: World) -> None:
    world.market.change(OURS, volumes=(VolumeId(7),))
    world.run()
    (intent,) = world.history.all(DestroyIntended)
    assert intent.volumes == (7,)
    assert world.context().known().volumes == {VolumeId(7): "night"}


def test_a_volume_that_bills_on_is_seen_at_teardown(world: World) -> None:

    world.market.change(OURS, volumes=(VolumeId(7),))
    world.market.stored = [_volume(7, "data", OURS), _volume(8, "another's")]
    world.run()
    seen = teardown.look(world.context())
    assert seen.volumes.get() == ("volume 7 data 20 GB 0.0040 USD/h",)
    assert seen.orphans.get() == ("volume 7 data 20 GB 0.0040 USD/h",)
    world.provider.break_("volumes", ProviderUnavailable("answered 502"), times=0)
    unseen = teardown.look(world.context())
    assert (unseen.volumes.problem, unseen.orphans.problem) == ("answered 502", "answered 502")


@pytest.fixture
def typed(provider: FaultyProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The command, in a home of its own with one job in it, against the scripted provider."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    monkeypatch.setattr(cli, "open_provider", lambda *_: provider)
    store = open_store(tmp_path / "state.db", SystemClock())
    log = Log().rented()
    for event in job_histories.events_of(log.records):
        store.append(log.job.name, event)
    return cli.orphans


def test_the_command_tells_all_three(
    typed: Callable[..., None], market: Market, capsys: pytest.CaptureFixture[str]
) -> None:
    market.add(INSTANCE, LABEL)
    market.stored = [_volume(7, "gsh-x-00000000")]
    typed(as_json=False)
    said = capsys.readouterr().out
    instances, volumes, costs = re.split(r"^(?=volumes|costs)", said, flags=re.MULTILINE)
    assert "job night, at stage provision" in instances
    assert "7  20 GB" in volumes
    assert "ORPHAN: gsh-x-00000000" in volumes
    assert costs.splitlines()[1:] == ["  none"]
    typed(as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["unknown"] == {}
    assert [row["standing"] for row in told["instances"] + told["volumes"]] == ["owned", "orphan"]


@pytest.mark.parametrize(("columns", "lines"), [(60, 2), (200, 1)])
def test_a_row_is_read_on_any_terminal(market: Market, provider: FaultyProvider, columns: int, lines: int) -> None:
    market.add(INSTANCE, LABEL)
    shown = _only(survey(provider, _alive())["instances"]).shown(columns).splitlines()
    assert len(shown) == lines
    assert all(len(line) < columns for line in shown)
    assert " ".join(" ".join(shown).split()) == f"{INSTANCE} running $15.9/h $1.00 billed job night, at stage provision"


def test_the_command_never_says_none_of_what_it_could_not_see(
    typed: Callable[..., None], provider: FaultyProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.break_("volumes", ProviderUnavailable("answered 502"), times=0)
    with pytest.raises(ProviderUnavailable, match="answered 502"):
        typed(as_json=False)
    said = capsys.readouterr().out
    assert said.count("UNKNOWN: answered 502") == 2
    with pytest.raises(ProviderUnavailable):
        typed(as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["volumes"], told["costs"], set(told["unknown"])) == (None, None, {"volumes", "costs"})
    assert provider.count("destroy") == 0


def test_the_command_lists_what_bills_though_a_log_does_not_read(
    typed: Callable[..., None], market: Market, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    market.add(INSTANCE, LABEL)
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as opened, opened:
        opened.execute("update events set data = '{}'")
    with pytest.raises(LogDamaged, match="the log of job night does not read"):
        typed(as_json=False)
    assert f"{INSTANCE}  running" in capsys.readouterr().out
    with pytest.raises(LogDamaged):
        typed(as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert set(told["unknown"]) == {"jobs"}
    assert [row["id"] for row in told["instances"]] == [INSTANCE]
