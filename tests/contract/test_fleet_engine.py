"""A fleet's workers in processes of their own, their jobs played: what DBOS and the leases make of every ending."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.errors import BadInput, Conflict
from harness.core.lifecycle import ORDER
from harness.fleet.engine import Engine, FleetState, JobPlace
from tests.support.fleets import PlayedFleet, until, write_fleet
from tests.support.postgres import Cluster

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="workers are killed by POSIX signals")
ALL = [str(stage) for stage in ORDER]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[PlayedFleet]:
    fleet = PlayedFleet(tmp_path)
    yield fleet
    fleet.close()


def test_a_held_job_that_is_named_twice_is_taken_up_once(made: PlayedFleet) -> None:
    write_fleet(made.file.parent, 1)
    made.play(0, "preflight", "5")
    made.end(made.start())
    with made.engine() as engine:
        engine.take_up(["job-0", "job-0"])
        assert made.places() == {"job-0": JobPlace.WAITING}
        with pytest.raises(BadInput, match="job-0 is waiting, and not held"):
            engine.take_up(["job-0"])


def test_a_person_who_came_between_is_told_of_in_the_harnesss_words(
    made: PlayedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fleet(made.file.parent, 1)
    made.play(0, "preflight", "5")
    made.end(made.start())
    with made.engine() as engine:
        held = engine.standpoints()
        engine.take_up(["job-0"])
    monkeypatch.setattr(Engine, "standpoints", lambda _: held)
    with pytest.raises(Conflict, match="ENQUEUED"), made.engine() as engine:
        engine.take_up(["job-0"])


def _in_training(fleet: PlayedFleet) -> set[str]:
    return {job for job, stage in fleet.calls() if stage == "training"}


def _done(fleet: PlayedFleet) -> bool:
    return set(fleet.places().values()) == {JobPlace.DONE}


@pytest.mark.slow
@pytest.mark.parametrize("with_its_children", [True, False], ids=["a lost machine", "a lost worker"])
def test_a_killed_workers_jobs_go_on_elsewhere(made: PlayedFleet, *, with_its_children: bool) -> None:
    write_fleet(made.file.parent, 3, concurrency=2)
    for job in range(3):
        made.play(job, "training", "wait")
    first = made.start()
    until(lambda: len(_in_training(made)) == 2)
    in_flight = _in_training(made)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    if with_its_children:
        for child in made.children():
            os.kill(child, signal.SIGKILL)
    second = made.start()
    if with_its_children:
        until(lambda: all(made.calls().count((job, "training")) == 2 for job in in_flight))
    (made.played / "go").touch()
    code, said = made.end(second)
    assert code == 0
    assert _done(made)
    assert said.count("its worker is gone") == 2
    assert Counter(made.calls()) == {
        (f"job-{job}", stage): 2 if stage == "training" and f"job-{job}" in in_flight else 1
        for job in range(3)
        for stage in ALL
    }


@pytest.mark.slow
def test_on_a_server_a_lost_machines_jobs_go_on_at_another_though_the_server_restarts(
    tmp_path: Path, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = PlayedFleet(tmp_path, postgres.new_database())
    monkeypatch.setenv("HARNESS_STATE", str(made.state))
    try:
        write_fleet(made.file.parent, 8, concurrency=4, more="concurrency_per_worker = 2")
        for job in range(8):
            made.play(job, "training", "wait")
        first, second = made.start(), made.start()
        until(lambda: len(_in_training(made)) == 4)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        for child in made.children(of=first.pid):
            os.kill(child, signal.SIGKILL)
        postgres.stop()
        postgres.start()
        (made.played / "go").touch()
        code, said = made.end(second)
        assert code == 0
        assert _done(made)
        assert said.count("its worker is gone") == 2
        assert max(Counter(made.calls()).values()) == 2
        assert sum(Counter(made.calls()).values()) == 8 * len(ALL) + 2
    finally:
        made.close()


@pytest.mark.slow
def test_held_jobs_keep_nobody_waiting_and_are_taken_up_where_they_stand(made: PlayedFleet) -> None:
    write_fleet(made.file.parent, 3, concurrency=1)
    made.play(0, "provision", "5")
    made.play(1, "upload", "8 -9 0")
    code, said = made.end(made.start())
    assert code == 0
    assert made.places() == {"job-0": JobPlace.HELD, "job-1": JobPlace.DONE, "job-2": JobPlace.DONE}
    with made.engine() as engine:
        assert "job-0 is played in provision" in engine.standpoints()["job-0"].why  # type: ignore[index]
    assert said.count("again in") == 2
    begun = list(dict.fromkeys(job for job, _ in made.calls()))
    assert begun == ["job-2", "job-1", "job-0"]  # by priority
    before = len(made.calls())
    made.end(made.start())
    assert len(made.calls()) == before  # nobody has said anything
    with made.engine() as engine:
        engine.take_up(["job-0"])
    made.end(made.start())
    assert _done(made)
    assert made.calls()[before:] == [("job-0", stage) for stage in ALL[1:]]


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_puts_its_jobs_back(made: PlayedFleet) -> None:
    write_fleet(made.file.parent, 3)
    for job in range(3):
        made.play(job, "launch", "wait")
    first = made.start()
    until(lambda: len([one for one in made.calls() if one[1] == "launch"]) == 3)
    os.kill(first.pid, signal.SIGTERM)
    made.end(first)
    assert set(made.places().values()) == {JobPlace.WAITING}
    assert not made.children()
    (made.played / "go").touch()
    _, said = made.end(made.start())
    assert "is gone" not in said
    assert _done(made)
    assert Counter(made.calls())["job-0", "preflight"] == 1


@pytest.mark.slow
def test_paused_it_begins_nothing_and_drained_its_workers_end(made: PlayedFleet) -> None:
    write_fleet(made.file.parent, 2, concurrency=1)
    made.play(1, "install", "wait")
    first = made.start()
    until(lambda: ("job-1", "install") in made.calls())
    with made.engine() as engine:
        engine.stand(FleetState.PAUSED)
        until((made.played / "paused").exists)
        (made.played / "go").touch()
        until(lambda: engine.standpoints()["job-1"].place is JobPlace.DONE)  # type: ignore[index]
        assert engine.standing() is FleetState.PAUSED
        engine.stand(FleetState.DRAINING)
    code, _ = made.end(first)
    assert code == 0
    assert made.places() == {"job-0": JobPlace.WAITING, "job-1": JobPlace.DONE}
    made.end(made.start())  # another worker does not begin by itself what was drained
    assert made.places()["job-0"] is JobPlace.WAITING
    with made.engine() as engine:
        engine.stand(FleetState.RUNNING)
    made.end(made.start())
    assert _done(made)
