"""The training's session on a real box: once, alive, ended, killed, stopped; in tmux and without it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.local_sshd import SSHD, LocalSshd
from harness.core.answers import SessionState
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, HostUnreachable
from harness.core.ports import Host, Json, RunResult
from harness.core.questions import TmuxSessions
from harness.remote.host import SshHost
from harness.remote.probe.typed import typed
from harness.remote.session import TrainingSession

pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is not installed")


@pytest.fixture(scope="module", params=["tmux", "setsid"])
def box(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSshd]:
    directory = tmp_path_factory.mktemp("session")
    environment = {}
    if request.param == "setsid":
        tools = directory / "bin"
        tools.mkdir()
        for tool in ("sh", "sleep", "cut", "mv", "true"):
            (tools / tool).symlink_to(str(shutil.which(tool)))
        (tools / "python3").symlink_to(Path(sys.executable).resolve())
        environment["PATH"] = str(tools)
    elif shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    server = LocalSshd(directory / "sshd", environment)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def host(box: LocalSshd) -> Iterator[Host]:
    made = SshHost(box.login(), SystemClock(), patience=5.0)
    yield made
    made.close()


@pytest.fixture
def session(host: Host, box: LocalSshd, tmp_path: Path) -> Iterator[TrainingSession]:
    made = TrainingSession(host, f"work/{tmp_path.name} $HOME", name=f"t{os.getpid()}")
    (box.home / "work" / f"{tmp_path.name} $HOME").mkdir(parents=True)
    yield made
    made.stop(grace=0.1)


def until(what: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def log(box: LocalSshd, tmp_path: Path) -> str:
    written = box.home / "work" / f"{tmp_path.name} $HOME" / "training.log"
    return written.read_text() if written.exists() else ""


def test_before_and_after(session: TrainingSession, box: LocalSshd, tmp_path: Path) -> None:
    assert session.state() == SessionState(started=False, alive=False, pid=None, exit_status=None)
    assert session.start(["sh", "-c", 'echo "$1 $NAME"; echo err >&2; exit 7', "sh", "$(id)"], {"NAME": "a 'b"})
    until(lambda: not session.alive())
    ended = session.state()
    assert ended.exit_status == 7
    written = box.home / "work" / f"{tmp_path.name} $HOME" / ".harness/exit_status"
    hour_ago = time.time() - 3600
    os.utime(written, (hour_ago, hour_ago))
    assert ended.ended_s is not None
    assert 0 <= ended.ended_s < 60
    assert 3600 <= (session.state().ended_s or 0) < 3660
    assert log(box, tmp_path) == "$(id) a 'b\nerr\n"


def test_a_running_one_is_not_started_again(session: TrainingSession, box: LocalSshd, tmp_path: Path) -> None:
    assert session.start(["sh", "-c", "echo once; sleep 60"])
    assert not session.start(["sh", "-c", "echo twice"])
    state = session.state()
    assert state.alive
    assert state.exit_status is None
    until(lambda: log(box, tmp_path) == "once\n")


def test_another_directory_s_training_of_the_same_name_runs_on(
    session: TrainingSession, host: Host, box: LocalSshd, tmp_path: Path
) -> None:
    (box.home / "work" / f"{tmp_path.name}-other").mkdir()
    other = TrainingSession(host, f"work/{tmp_path.name}-other", name=f"t{os.getpid()}")
    assert session.start(["sleep", "65"])
    try:
        assert other.start(["sleep", "66"])
        assert session.alive()
        assert other.alive()
        other.stop(grace=0.1)
        assert session.alive()
    finally:
        other.stop(grace=0.1)


def test_a_launcher_that_has_not_reported_yet_is_replaced(
    session: TrainingSession, host: Host, box: LocalSshd, tmp_path: Path
) -> None:
    assert session.start(["sleep", "67"])
    first = session.state()
    if not host.probe([TmuxSessions()])[TmuxSessions()].get().installed:
        session.stop(grace=0.1)
        pytest.skip("only a terminal session can be found again by its name")
    (box.home / "work" / f"{tmp_path.name} $HOME" / ".harness" / "launch.json").unlink()
    assert session.start(["sleep", "68"])
    until(lambda: not Path(f"/proc/{first.pid}").exists())
    assert session.alive()


def test_one_that_failed_is_started_again_and_the_log_goes_on(
    session: TrainingSession, box: LocalSshd, tmp_path: Path
) -> None:
    for word in ("first", "second"):
        assert session.start(["sh", "-c", f"echo {word}; exit 1"])
        until(lambda: session.state().exit_status == 1)
    assert log(box, tmp_path) == "first\nsecond\n"


def test_one_that_ended_well_is_not_started_again(session: TrainingSession, box: LocalSshd, tmp_path: Path) -> None:
    assert session.start(["echo", "once"])
    until(lambda: session.state().exit_status == 0)
    assert not session.start(["echo", "twice"])
    assert session.state().exit_status == 0
    assert log(box, tmp_path) == "once\n"


def test_stop_ends_the_whole_family(session: TrainingSession) -> None:
    assert session.start(["sh", "-c", "sleep 61 & sleep 62 & wait"])
    stopped = session.stop(grace=5.0)
    assert not stopped.alive
    assert stopped.exit_status is not None
    assert stopped.exit_status > 128
    assert not session.alive()


def test_stop_ends_what_does_not_want_to(session: TrainingSession, box: LocalSshd, tmp_path: Path) -> None:
    assert session.start(
        ["python3", "-c", "import signal,time;signal.signal(15,signal.SIG_IGN);print(1,flush=True);time.sleep(60)"]
    )
    until(
        lambda: (box.home / "work" / f"{tmp_path.name} $HOME" / "training.log").exists() and "1" in log(box, tmp_path)
    )
    stopped = session.stop(grace=0.5)
    assert not stopped.alive


def test_a_killed_launcher_is_dead_without_a_status(session: TrainingSession) -> None:
    assert session.start(["sleep", "63"])
    pid = session.state().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    session.stop(grace=1.0)
    state = session.state()
    assert (state.alive, state.exit_status, state.started) == (False, None, True)
    assert session.start(["true"])
    until(lambda: session.state().exit_status == 0)


def test_an_orphan_of_a_killed_launcher_still_counts_as_alive(
    session: TrainingSession, box: LocalSshd, tmp_path: Path
) -> None:
    deaf = "import signal, time; signal.signal(1, signal.SIG_IGN); print('deaf', flush=True); time.sleep(64)"
    assert session.start(["python3", "-c", deaf])
    until(lambda: "deaf" in log(box, tmp_path))
    pid = session.state().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert session.alive()
    assert not session.start(["true"])
    session.stop(grace=1.0)
    assert not session.alive()


def test_a_reused_pid_is_not_taken_for_the_training(session: TrainingSession, box: LocalSshd, tmp_path: Path) -> None:
    assert session.start(["true"])
    until(lambda: session.state().exit_status == 0)
    record = box.home / "work" / f"{tmp_path.name} $HOME" / ".harness" / "launch.json"
    record.write_text(f'{{"pid": {os.getpid()}, "started": 1, "carrier": "tmux"}}')
    assert not session.alive()


def test_a_damaged_record_is_not_an_answer(session: TrainingSession, box: LocalSshd, tmp_path: Path) -> None:
    record = box.home / "work" / f"{tmp_path.name} $HOME" / ".harness" / "launch.json"
    record.parent.mkdir()
    record.write_text("{}")
    with pytest.raises(HostUnreachable):
        session.state()
    record.unlink()


@pytest.mark.parametrize("name", ["", "a b", "a:b", "-x;", "$(id)"])
def test_odd_names_are_refused(host: Host, name: str) -> None:
    with pytest.raises(BadInput):
        TrainingSession(host, "work", name=name)


def test_odd_variables_are_refused(session: TrainingSession) -> None:
    with pytest.raises(BadInput):
        session.start(["true"], {"A=1;rm": "x"})


class _Says:
    """A box that answers whatever it is asked to do with one value."""

    def __init__(self, value: str) -> None:
        self._value = value

    def run(self, *_: object, stdin: bytes, **__: object) -> RunResult:
        found = re.search(rb"harness-act-[0-9a-f]+:", stdin)
        assert found is not None
        return RunResult(0, found.group() + b'{"value": ' + self._value.encode() + b"}\n", b"")


@pytest.mark.parametrize("value", ["null", "5", "[]", '"fresh"', "{}", '{"fresh": 1}', '{"fresh": "yes"}'])
def test_an_odd_answer_to_a_start_is_not_a_start(value: str) -> None:
    with pytest.raises(HostUnreachable, match="oddly"):
        TrainingSession(_Says(value), "work").start(["true"])  # type: ignore[arg-type]  # nothing else is asked


SOUND: dict[str, Json] = {"started": True, "alive": True, "pid": 7, "exit_status": None}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {**SOUND, "started": 1},
        {**SOUND, "pid": "1"},
        {**SOUND, "pid": 1.0},
        {**SOUND, "exit_status": True},
        {**SOUND, "exit_status": 1 << 40},
        {**SOUND, "pid": 1 << 40},
        {**SOUND, "stray": "\ud800"},
        {**SOUND, "ended_s": -1},
        {**SOUND, "ended_s": float("inf")},
        {**SOUND, "ended_s": float("nan")},
    ],
)
def test_an_odd_answer_is_refused(answer: Json) -> None:
    assert typed(SOUND, SessionState).problem is None
    assert typed(answer, SessionState).problem is not None


def test_what_cannot_be_read_of_a_stop_was_not_seen() -> None:
    """Bytes of a stranger end no watch with an error of ours."""
    with pytest.raises(HostUnreachable, match="does not read"):
        TrainingSession(_Says('{"started": true, "stray": "\\ud800"}'), "work").stop()  # type: ignore[arg-type]  # see above
