"""The package on its way: what is sent, what is run there and told of it, and what is kept aside; by values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.context import RunnerContext
from harness.core.errors import LeaseLost, TransferFailed
from harness.core.ids import Sha256
from harness.core.ports import RunResult
from harness.facts.mirror import MIRROR, Resumable
from harness.job.model import Job
from harness.ledger.events import Installed, Resumes, Uploaded
from harness.ledger.noted import BaseFetched
from harness.runner import ahead, package, switch
from tests.support.context import Telling
from tests.support.facts import sound_job
from tests.support.fake_clock import FakeClock

SHA = Sha256("ab" * 32)
PIP, READY = ("pip", "install"), ("python3", "ready.py")
FETCH = (*READY, "--fetch-only")
GOES_ON = "the training goes on from sft step 100"


class Desk:
    """A context whose box takes what is sent and answers what is run; its lease may be another's."""

    def __init__(self, folder: Path, *results: RunResult, lease: bool = True, **history: Any) -> None:
        self.clock, self.reporter, self.directory = FakeClock(), Telling(), folder
        self.job: Job = sound_job(package={"install": PIP, "readiness": READY, "fetch_option": "--fetch-only"})
        told = {"staged": SimpleNamespace(files={"a.py": SHA}), "resumes": None, "launches": 0, "lost": None}
        self.history = SimpleNamespace(**{**told, "repackaged": False, **history})
        self.results, self.lease = list(results), lease
        self.recorded, self.sent, self.ran = list[object](), list[Any](), list[Any]()
        self.says = list[bytes]()

    def __call__(self) -> RunnerContext:
        return cast("RunnerContext", self)

    def host(self) -> Any:
        return SimpleNamespace(send=lambda *given, **named: self.sent.append((given, named)), run=self._run)

    def _run(self, argv: Sequence[str], *, timeout: float, heard: Callable[[bytes], None]) -> RunResult:
        self.ran.append((tuple(argv), timeout))
        for said in self.says:
            self.clock.turn(5.0)
            heard(said)
        return self.results.pop(0)

    def record(self, event: object) -> None:
        self.recorded.append(event)

    def require_lease(self, *, within_s: float = 0.0) -> None:
        del within_s
        if not self.lease:
            raise LeaseLost("another drives it")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing is begun ahead, nothing is gone on from; what is stopped and disarmed is listed."""
    acts = list[str]()
    monkeypatch.setattr(ahead, "begin", lambda *_: acts.append("begin ahead"))
    monkeypatch.setattr(ahead, "ended", lambda _c, _r, name, _argv, within: acts.append(f"{name} {within:g}"))
    monkeypatch.setattr(switch, "disarm", lambda *_: acts.append("disarm"))
    monkeypatch.setattr(package, "require_stopped", lambda _c, _r, why: acts.append(f"stop: {why}"))
    monkeypatch.setattr(package, "to_go_on_from", lambda _: None)
    return acts


# --- upload ---------------------------------------------------------------------------------


def test_what_was_staged_is_sent_and_counted(tmp_path: Path, quiet: list[str]) -> None:
    desk = Desk(tmp_path)
    package.upload(desk(), desk.reporter)
    ((given, named),) = desk.sent
    assert given[:3] == (tmp_path / "package", desk.job.package.remote_dir, {"a.py": SHA})
    assert named == {"elsewhere": {}, "written": desk.job.output_folders}
    assert (desk.recorded, quiet) == ([Uploaded(1)], ["begin ahead"])


def test_an_attempt_that_may_run_on_is_stopped_before_another_package_is_sent(tmp_path: Path, quiet: list[str]) -> None:
    desk = Desk(tmp_path, launches=1)
    package.upload(desk(), desk.reporter)
    assert quiet == ["stop: its package has changed", "disarm", "begin ahead"]


def test_what_the_training_goes_on_from_is_sent_with_the_package(
    tmp_path: Path, quiet: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del quiet
    local = tmp_path / "weights"
    local.write_bytes(b"w")
    found = Resumable(cast("Any", {"sft": 100}), {"models/w": local})
    monkeypatch.setattr(package, "to_go_on_from", lambda _: found)
    digest = Sha256(hashlib.sha256(b"w").hexdigest())
    resumes = Resumes({"sft": 100}, {"models/w": digest})
    desk = Desk(tmp_path, lost=object(), resumes=resumes)
    package.upload(desk(), desk.reporter)
    ((given, named),) = desk.sent
    assert (given[2], named["elsewhere"]) == ({"a.py": SHA, "models/w": digest}, {"models/w": local})
    assert desk.recorded == [Uploaded(2)], "what is known already is not recorded again"
    assert any(note.startswith(GOES_ON) for note in desk.reporter.notes)
    another = Desk(tmp_path, lost=object())
    package.upload(another(), another.reporter)
    assert another.recorded[0] == resumes


def test_nothing_is_sent_without_a_snapshot_or_to_a_place_outside(tmp_path: Path, quiet: list[str]) -> None:
    none = Desk(tmp_path, staged=None)
    with pytest.raises(TransferFailed, match="no package was staged"):
        package.upload(none(), none.reporter)
    out = Desk(tmp_path, staged=SimpleNamespace(files={"../a.py": SHA}))
    with pytest.raises(ValueError, match="not a safe relative path"):
        package.upload(out(), out.reporter)
    assert (none.sent, out.sent, quiet) == ([], [], [])


def test_who_lost_the_job_sends_and_runs_nothing(tmp_path: Path, quiet: list[str]) -> None:
    del quiet
    desk = Desk(tmp_path, lease=False)
    with pytest.raises(LeaseLost):
        package.upload(desk(), desk.reporter)
    with pytest.raises(LeaseLost):
        package.install(desk(), desk.reporter, 100.0)
    assert (desk.sent, desk.ran, desk.recorded) == ([], [], [])


# --- install --------------------------------------------------------------------------------


def test_the_package_is_installed_and_its_base_fetched_where_it_lies(tmp_path: Path, quiet: list[str]) -> None:
    desk = Desk(tmp_path, RunResult(0, b"", b""), RunResult(3, b"out", b"err"))
    package.install(desk(), desk.reporter, 100.0)
    directory = desk.job.package.remote_dir
    assert [argv[3:] for argv, _ in desk.ran] == [("sh", directory, *PIP), ("sh", directory, *FETCH)]
    assert {timeout for _, timeout in desk.ran} == {100.0}
    assert desk.recorded == [Installed(0), BaseFetched(3)]
    assert desk.reporter.notes == ["python3 ready.py --fetch-only ended with status 3: err"]
    assert quiet == ["install 100", "base 100"]


def test_a_base_that_was_fetched_beside_is_not_fetched_again(
    tmp_path: Path, quiet: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del quiet
    monkeypatch.setattr(ahead, "ended", lambda *_: 0)
    desk = Desk(tmp_path, RunResult(0, b"", b""))
    package.install(desk(), desk.reporter, 1e9)
    assert desk.recorded == [Installed(0), BaseFetched(0)]
    assert [timeout for _, timeout in desk.ran] == [desk.job.package.install_timeout_s]


def test_a_package_without_commands_runs_none(tmp_path: Path, quiet: list[str]) -> None:
    desk = Desk(tmp_path)
    desk.job = sound_job(package={"install": (), "readiness": ()})
    package.install(desk(), desk.reporter, 100.0)
    assert (desk.ran, desk.recorded, quiet) == ([], [], [])


def test_the_last_words_of_a_command_that_failed_are_told(tmp_path: Path, quiet: list[str]) -> None:
    del quiet
    desk = Desk(tmp_path, RunResult(1, b"x" * 700, b""), RunResult(0, b"well", b"well"))
    package.install(desk(), desk.reporter, 100.0)
    assert desk.reporter.notes == [f"pip install ended with status 1: {'x' * 600}"]


def test_pips_words_tell_how_far_it_is(tmp_path: Path, quiet: list[str]) -> None:
    del quiet
    desk = Desk(tmp_path, RunResult(0, b"", b""), RunResult(0, b"", b""))
    desk.says = [
        b"Collecting torch\nColl",
        b"ecting numpy (from torch)\n",
        b"  Collecting no\nLooking\n",
        b"Collecting torch\n",
    ]
    package.install(desk(), desk.reporter, 100.0)
    mine = [detail for name, detail in desk.reporter.meters if name.startswith("installing on the box: pip install")]
    assert mine == ["", "1 packages so far: torch", "2 packages so far: numpy", "2 packages so far: torch"]
    assert any(name.startswith("fetching the base model on the box") for name, _ in desk.reporter.meters)


# --- the mirror of another run --------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "aside"),
    [
        ({"launches": 0}, True),
        ({"launches": 1}, False),
        ({"launches": 1, "lost": object(), "repackaged": True}, True),
        ({"launches": 1, "lost": object()}, False),
    ],
    ids=["before any launch", "launched", "another package", "the same package"],
)
def test_a_mirror_that_this_run_does_not_go_on_from_is_kept_aside(
    tmp_path: Path, quiet: list[str], history: dict[str, Any], aside: bool
) -> None:
    del quiet
    (tmp_path / MIRROR / "sft").mkdir(parents=True)
    desk, lost = Desk(tmp_path, **history), "lost" in history
    assert package._to_go_on_from(desk(), desk.reporter) == {}
    kept = [path.name for path in tmp_path.iterdir() if path.name.startswith(f"{MIRROR}-of-earlier-")]
    assert (bool(kept), (tmp_path / MIRROR).exists()) == (aside, not aside)
    told = [note for note in desk.reporter.notes if note.startswith("checkpoints of an earlier instance are kept in")]
    assert told == [f"checkpoints of an earlier instance are kept in {name}" for name in kept]
    assert desk.recorded == ([Resumes({}, {})] if lost else [])
    assert any("begins anew" in note for note in desk.reporter.notes) == lost
