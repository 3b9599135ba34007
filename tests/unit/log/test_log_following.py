"""A growing log, followed on a real file by the program of the box: nothing lost, nothing twice, in bounded memory."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.answers import Lines
from harness.core.errors import HostUnreachable
from harness.core.questions import LinesFrom
from harness.log import following
from harness.log.following import LogFollower
from harness.remote.box import files
from harness.remote.probe.typed import typed


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "training.log"


def _asked(question: LinesFrom) -> Lines:
    """The box's answer, as it crosses the wire."""
    return typed(files.lines(**question.arguments()), Lines).get()


def _follower(log: Path, last: int = 10, ask: Callable[[LinesFrom], Lines] = _asked) -> LogFollower:
    return LogFollower(str(log), last, ask)


def _append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def test_the_last_lines_and_then_what_comes(log: Path) -> None:
    log.write_bytes(b"".join(b"line %d\n" % n for n in range(100)))
    follower = _follower(log, 3)
    assert [*follower.news()] == ["line 97", "line 98", "line 99"]
    assert [*follower.news()] == []
    _append(log, b"line 100\nline 1")
    assert [*follower.news()] == ["line 100"]
    _append(log, b"01\n")
    assert [*follower.news()] == ["line 101"]


@pytest.mark.parametrize(("last", "told"), [(0, []), (1, ["b"]), (5, ["a", "b"])])
def test_no_more_than_was_asked_for(log: Path, last: int, told: list[str]) -> None:
    log.write_bytes(b"a\nb\n")
    assert [*_follower(log, last).news()] == told


def test_a_log_that_begins_later_is_told_from_its_beginning(log: Path) -> None:
    follower = _follower(log, 1)
    assert [*follower.news()] == []
    assert (follower.begun, follower.exists) == (True, False)
    log.write_bytes(b"a\nb\n")
    assert [*follower.news()] == ["a", "b"]
    assert follower.exists


def test_a_log_that_became_shorter_is_another_one(log: Path) -> None:
    log.write_bytes(b"a\nb\n")
    follower = _follower(log)
    assert [*follower.news()] == ["a", "b"]
    log.write_bytes(b"c\n")
    assert [*follower.news()] == ["(the log begins anew)", "c"]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        pytest.param(b"10%\r20%\r30%\n", ["30%"], id="a progress bar"),
        pytest.param(b"10%\r20%\r", ["20%"], id="a progress bar in mid-course"),
        pytest.param(b"one\r\ntwo\r\n", ["one", "two"], id="lines of Windows"),
        pytest.param(b"\x1b[2J\x1b[31mred\x1b[0m\n", ["red"], id="colours, and a screen to be wiped"),
        pytest.param(b"\x1b]0;title\x07said\n", ["said"], id="a window's title"),
        pytest.param(b"\x1b]52;c;ZXZpbA==\x07said\n", ["said"], id="a clipboard"),
        pytest.param(b"a\x00b\x07c\x7f\n", ["a�b�c�"], id="control characters"),
        pytest.param(b"\xff\xfe\n", ["��"], id="no UTF-8"),
        pytest.param("a\u202eb\n".encode(), ["a�b"], id="a turned direction"),
        pytest.param("a\u2028b\n".encode(), ["a�b"], id="a line separator"),
        pytest.param(b"\n\n \nx\n", ["x"], id="nothing said"),
        pytest.param(b"x" * 9000 + b"\n", ["x" * 4096 + "…"], id="a long line"),
    ],
)
def test_a_strangers_line_is_made_one_printable_line(log: Path, written: bytes, told: list[str]) -> None:
    log.write_bytes(written)
    assert [*_follower(log).news()] == told


def test_a_cut_loses_nothing_and_repeats_nothing(log: Path) -> None:
    cuts = {1, 3, 4, 6}
    asked = 0

    def ask(question: LinesFrom) -> Lines:
        nonlocal asked
        asked += 1
        if asked in cuts:
            raise HostUnreachable("cut")
        return _asked(question)

    log.write_bytes(b"0\n")
    follower, told = _follower(log, 10, ask), []
    for number in range(1, 12):
        with contextlib.suppress(HostUnreachable):
            for line in follower.news():
                told.append(line)  # noqa: PERF402 - what came before a cut was shown
        _append(log, b"%d\n" % number)
    told += [*follower.news()]
    assert told == [str(number) for number in range(12)]


def test_a_line_without_an_end_is_passed_in_pieces(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_LIMIT", 1000)
    log.write_bytes(b"")
    follower = _follower(log)
    assert [*follower.news()] == []
    _append(log, b"y" * 2500 + b"\nend\n")
    assert [len(line) for line in follower.news()] == [1000, 1000, 500, 3]


def test_much_in_between_takes_no_memory_to_speak_of(log: Path) -> None:
    log.write_bytes(b"begin\n")
    follower = _follower(log)
    assert [*follower.news()] == ["begin"]
    _append(log, (b"z" * 99 + b"\n") * 100_000)
    tracemalloc.start()
    count = sum(1 for _ in follower.news())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 8 << 20
