"""The terminal view: live on a terminal, plain lines elsewhere, and never a stranger's control character."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from harness.cli import exit_codes, progress_view
from harness.cli.progress_view import open_reporter, paused, show_failure
from harness.cli.screens import PlainScreen, say
from harness.cli.wording import Doing
from harness.core.errors import GateHeld, HarnessError, NotProven, StoreFailed
from harness.core.lifecycle import Stage
from harness.core.rate import Meter, MeterReading
from harness.core.verdict import Verdict
from harness.gates.evidence import GateResult, Sight
from harness.runner.progress import DOWNLOAD, STEPS, UPLOAD, ProgressReporter, waiting
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import check, gate, job

_JOB = job()
_EVIL = "\x1b]0;owned\x07\x1b[2J[red]x[/red]\r\nPASS everything\u202e"


def _plain() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=80)


def _said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _screen_of(reporter: ProgressReporter) -> Any:
    return vars(type(reporter))["screen"].__get__(reporter)


def _training(*bent: tuple[str, Verdict, str]) -> GateResult:
    results = [check(Stage.TRAINING, name, verdict, message=message) for name, verdict, message in bent]
    return gate(Stage.TRAINING, _JOB, *results)


def test_a_stage_is_one_line_with_verdict_checks_time_and_dollars() -> None:
    console, clock = _plain(), FakeClock()
    with open_reporter(console, plain=True, clock=clock, spent=lambda: clock.monotonic() * 0.01) as reporter:
        reporter.stage(Stage.PREFLIGHT)
        clock.turn(65)
        reporter.judged(Stage.PREFLIGHT, gate(Stage.PREFLIGHT, _JOB))
        reporter.stage(Stage.PROVISION)
        clock.turn(10)
        reporter.judged(Stage.PROVISION, gate(Stage.PROVISION, _JOB))
    lines = _said(console).splitlines()
    assert lines[0] == "preflight"
    assert lines[1].split() == ["preflight", "✓", "PASS", "22/22", "checks", "1", "min", "05", "s", "$0.65"]
    assert lines[3].split() == ["provision", "✓", "PASS", "10/10", "checks", "10", "s", "$0.10"]
    assert len(lines) == 4


def test_what_did_not_pass_is_shown_in_full() -> None:
    console = _plain()
    with open_reporter(console, plain=True, clock=FakeClock()) as reporter:
        reporter.stage(Stage.TRAINING)
        bad = check(
            Stage.TRAINING,
            "loss_is_sane",
            Verdict.FAIL,
            claim="the loss is finite",
            saw=(Sight("loss", "nan"),),
            expected=(Sight("loss", "finite"),),
            message="assert nan is finite\n  where it is",
            remedy="harness run night",
        )
        reporter.judged(Stage.TRAINING, gate(Stage.TRAINING, _JOB, bad))
    said = _said(console)
    assert "  FAIL loss_is_sane: the loss is finite\n" in said
    for line in (
        "saw       loss = nan",
        "expected  loss = finite",
        "because   assert nan",
        "next      harness run night",
    ):
        assert line in said
    assert "15 of 16 checks passed" in said
    assert "✗ FAIL" in said
    assert "disk_has_room" not in said


def test_a_required_check_that_is_missing_and_a_problem_are_told() -> None:
    console = _plain()
    with open_reporter(console, plain=True, clock=FakeClock()) as reporter:
        reporter.stage(Stage.UPLOAD)
        result = GateResult("upload", "d", gate(Stage.UPLOAD, _JOB).required, (), ("pytest left no verdicts",))
        reporter.judged(Stage.UPLOAD, result)
    said = _said(console)
    assert "UNKNOWN remote_dataset_counts: it did not report" in said
    assert "pytest left no verdicts" in said
    assert "0 of 3 checks passed" in said
    assert "? UNKNOWN" in said


def test_all_checks_show_when_asked() -> None:
    console = _plain()
    with open_reporter(console, plain=True, clock=FakeClock(), verbose=True) as reporter:
        reporter.stage(Stage.UPLOAD)
        reporter.judged(Stage.UPLOAD, gate(Stage.UPLOAD, _JOB))
    assert _said(console).count("  PASS remote_") == 3
    assert "saw       seen = 42" in _said(console)


def test_polls_tell_what_turned_and_nothing_twice() -> None:
    console = _plain()
    with open_reporter(console, plain=True, clock=FakeClock()) as reporter:
        reporter.stage(Stage.TRAINING)
        stalled = _training(("progress_is_advancing", Verdict.FAIL, "no step for 300 s"))
        reporter.judged(Stage.TRAINING, _training())
        assert "progress" not in _said(console)
        reporter.judged(Stage.TRAINING, stalled)
        reporter.judged(Stage.TRAINING, stalled)
        assert _said(console).count("FAIL progress_is_advancing") == 1
        reporter.judged(Stage.TRAINING, _training())
        assert _said(console).count("PASS progress_is_advancing") == 1
        reporter.judged(Stage.TRAINING, _training())
    assert _said(console).count(" progress_is_advancing:") == 2


def test_a_stage_that_an_error_ended_is_shown_as_stopped_and_the_error_goes_on() -> None:
    console = _plain()

    def job_run() -> None:
        with open_reporter(console, plain=True, clock=FakeClock()) as reporter:
            reporter.stage(Stage.TRAINING)
            reporter.judged(Stage.TRAINING, _training())  # a poll that passed is not the stage's verdict
            raise NotProven("still there")

    with pytest.raises(NotProven, match="still there"):
        job_run()
    assert "STOPPED" in _said(console).splitlines()[-1]


def test_plain_meters_speak_every_five_percent_or_ten_seconds() -> None:
    console, clock = _plain(), FakeClock()
    with open_reporter(console, plain=True, clock=clock) as reporter:
        reporter.stage(Stage.POSTDOWNLOAD)
        for done in range(1001):
            reporter.meter(DOWNLOAD, done * 8_000_000, 8_000_000_000)
            clock.turn(0.05)
    lines = [line for line in _said(console).splitlines() if line.startswith("  download ")]
    assert len(lines) == 21
    assert lines[10] == "  download 4.00 GB of 8.00 GB, 50%, 160.00 MB/s, 25 s left"
    assert lines[-1].startswith("  download 8.00 GB of 8.00 GB, 100%")
    assert "  download: 8.00 GB in 50 s, 160.00 MB/s" in _said(console)


def test_a_fast_meter_does_not_flood_a_log() -> None:
    console, clock = _plain(), FakeClock()
    with open_reporter(console, plain=True, clock=clock) as reporter:
        reporter.stage(Stage.POSTDOWNLOAD)
        for done in range(101):
            reporter.meter(UPLOAD, done, 100)
            clock.turn(0.01)
    assert len([line for line in _said(console).splitlines() if line.startswith("  upload ")]) == 2


def test_a_slow_meter_speaks_every_ten_seconds_and_a_still_one_every_minute() -> None:
    console, clock = _plain(), FakeClock()
    with open_reporter(console, plain=True, clock=clock) as reporter:
        reporter.stage(Stage.TRAINING)
        for step in range(100):
            reporter.meter(STEPS, step, 100_000, "sft loss 0.5")
            clock.turn(1)
        slow = _said(console).count("  steps ")
        for _ in range(120):
            reporter.meter(STEPS, 99, 100_000, "sft loss 0.5")
            clock.turn(1)
        still = _said(console).count("  steps ") - slow
    assert slow == 10
    assert 2 <= still <= 3
    assert "sft loss 0.5" in _said(console)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_strangers_words_are_neither_markup_nor_control_nor_lines_of_their_own(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200, color_system=None)
    with open_reporter(console, plain=True, clock=FakeClock()) as reporter:
        reporter.stage(Stage.TRAINING)
        reporter.note(_EVIL)
        reporter.meter(STEPS, 1, 2, _EVIL)
        bad = check(
            Stage.TRAINING, "loss_is_sane", Verdict.FAIL, saw=(Sight(_EVIL, _EVIL),), message=_EVIL, claim=_EVIL
        )
        reporter.judged(Stage.TRAINING, gate(Stage.TRAINING, _JOB, bad))
    show_failure(console, GateHeld(_EVIL, remedy=_EVIL))
    said = _said(console)
    assert not any(sign in said for sign in ("\x1b", "\x07", "\r", "\u202e"))
    assert "[red]x[/red]" in said
    assert "owned" not in said
    assert not any(line.startswith("PASS") for line in said.splitlines())


def test_a_terminal_shows_bars_and_leaves_only_lines() -> None:
    console, clock = Console(file=io.StringIO(), force_terminal=True, width=120), FakeClock()
    with open_reporter(console, plain=False, clock=clock) as reporter:
        reporter.stage(Stage.TRAINING)
        reporter.meter(STEPS, 0, 410, "sft loss 2")
        clock.turn(44)
        reporter.meter(STEPS, 10, 410, "sft loss 2")
        reporter.note(_EVIL)
        reporter.judged(Stage.TRAINING, _training())
    said = _said(console)
    assert "━" in said
    assert "10/410" in said
    assert "4.4 s/step" in said
    assert "29 min 20 s left" in said
    assert "owned" not in said
    assert "\x1b[?25h" in said  # the cursor is back
    assert "✓ PASS" in said


@pytest.mark.parametrize("width", [60, 72, 80, 100, 120])
def test_a_bar_leaves_room_for_what_is_to_be_read(width: int) -> None:
    console, clock = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None), FakeClock()
    with open_reporter(console, plain=False, clock=clock) as reporter:
        reporter.stage(Stage.POSTDOWNLOAD)
        reporter.meter(DOWNLOAD, 0, 8_100_000_000)
        clock.turn(61)
        reporter.meter(DOWNLOAD, 1_230_000_000, 8_100_000_000)
    shown = [line for line in _said(console).replace("\x1b", "\n").splitlines() if "1.23 GB of 8.10 GB" in line]
    assert shown
    assert all("15%" in line and "5 min 41 s left" in line for line in shown)
    assert max(map(len, shown)) <= width
    assert all(("MB/s" in line) == ("━" in line) == (width > 72) for line in shown)


def test_a_question_is_not_drawn_over() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    with open_reporter(console, plain=False, clock=FakeClock()) as reporter:
        reporter.stage(Stage.TEARDOWN)
        reporter.meter(STEPS, 0, 2)
        reporter.meter(DOWNLOAD, 0, 2)
        with paused(reporter):
            before = _said(console)
            reporter.meter(STEPS, 1, 2)
            console.print("type the instance id: ", end="")
            assert _said(console).removeprefix(before) == "type the instance id: "
            asked = _said(console)
        back = _said(console).removeprefix(asked)
        assert "teardown" in back
        assert "\x1b[1A" not in back.partition("teardown")[0]  # and has wiped no line above it


def test_a_cost_that_cannot_be_read_hides_no_failure() -> None:
    def spent() -> float:
        raise StoreFailed("the disk is gone")

    def job_run() -> None:
        with open_reporter(_plain(), plain=True, clock=FakeClock(), spent=spent) as reporter:
            reporter.stage(Stage.TRAINING)
            raise GateHeld("what really happened")

    with pytest.raises(GateHeld, match="what really happened"):
        job_run()


@pytest.mark.parametrize("terminal", [False, True])
def test_an_output_that_knows_only_a_code_page_is_served(terminal: bool) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="cp1252", newline="\n")
    console = Console(file=file, force_terminal=terminal, width=120, legacy_windows=False)
    with open_reporter(console, plain=False, clock=FakeClock()) as reporter:
        reporter.stage(Stage.TRAINING)
        reporter.note("外 \N{REPLACEMENT CHARACTER}")
        reporter.meter(STEPS, 5, 10, "外")
        reporter.judged(Stage.TRAINING, _training())
    show_failure(console, GateHeld("外 holds"))
    say(console, "外 [bold]is said[/bold]")
    file.flush()
    said = raw.getvalue().decode("cp1252")
    assert "? holds" in said
    assert "? [bold]is said[/bold]" in said
    assert "PASS" in said


def test_transfers_may_tell_from_several_threads() -> None:
    console, clock = _plain(), FakeClock()
    with open_reporter(console, plain=True, clock=clock) as reporter:
        reporter.stage(Stage.POSTDOWNLOAD)

        def tell() -> None:
            for done in range(200):
                reporter.meter(DOWNLOAD, done, 200)

        threads = [threading.Thread(target=tell) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(line.isprintable() for line in _said(console).splitlines())


def test_a_failure_says_what_what_next_and_the_code() -> None:
    console = _plain()
    show_failure(console, NotProven("instance 4711 may still bill"))
    first, second, third = _said(console).splitlines()
    assert first == "error: instance 4711 may still bill"
    assert second.startswith("next:  Run the same command again")
    assert third == "exit code 6 (NotProven)"


def test_the_page_of_exit_codes_is_the_error_tree() -> None:
    page = Path(__file__).parents[3] / "docs" / "exit-codes.md"
    assert page.read_text(encoding="utf-8") == exit_codes.table(), (
        "make it anew: python -m harness.cli.exit_codes > docs/exit-codes.md"
    )
    assert all(f"`{error.__name__}`" in exit_codes.table() for error in (HarnessError, GateHeld, NotProven))


def _plain_screen() -> tuple[Console, FakeClock, PlainScreen]:
    console, clock = _plain(), FakeClock()
    return console, clock, PlainScreen(console, clock)


def test_a_silent_step_says_every_ten_seconds_that_it_goes_on_and_since_when() -> None:
    console, clock, screen = _plain_screen()
    screen.line(Text("  preparing"))
    screen.doing(Doing("preparing", clock.monotonic()))
    for _ in range(35):
        screen.beat()
        clock.turn(1)
    assert _said(console).splitlines() == [
        "  preparing",
        *(f"  still at it: preparing, {seconds} s" for seconds in (10, 20, 30)),
    ]


def test_a_wait_says_how_long_it_may_take() -> None:
    console, clock, screen = _plain_screen()
    screen.doing(Doing("smoke run", clock.monotonic(), 600))
    clock.turn(75)
    screen.beat()
    assert _said(console) == "  still at it: smoke run, 1 min 15 s of at most 10 min 00 s\n"


def test_nothing_beats_over_a_question_or_over_a_meter_that_speaks() -> None:
    console, clock, screen = _plain_screen()
    screen.doing(Doing("watching", clock.monotonic()))
    with screen.paused():
        clock.turn(100)
        screen.beat()
    screen.beat()
    assert not _said(console)
    screen.meter(STEPS, MeterReading(1, 10, None), "")
    clock.turn(30)
    screen.beat()
    assert _said(console).count("\n") == 1
    clock.turn(31)
    screen.beat()
    assert "still at it: watching" in _said(console)
    screen.meter(STEPS, MeterReading(10, 10, None), "")
    clock.turn(11)
    screen.beat()
    assert _said(console).count("still at it") == 2


def test_a_wait_is_one_line_however_often_it_is_told_and_ends_with_the_next_word() -> None:
    console, clock = _plain(), FakeClock()
    with open_reporter(console, plain=True, clock=clock) as reporter:
        screen = _screen_of(reporter)
        reporter.stage(Stage.LAUNCH)
        for second in range(0, 30, 2):
            reporter.meter(waiting("waiting for the plan"), second, 900)
            clock.turn(2)
        screen.beat()
        reporter.meter(UPLOAD, 5, 10)
        reporter.meter(UPLOAD, 10, 10)
        clock.turn(20)
        screen.beat()
    said = _said(console)
    assert said.count("  waiting for the plan (at most 15 min 00 s)\n") == 1
    assert "still at it: waiting for the plan, 30 s of at most 15 min 00 s" in said
    assert said.count("still at it") == 1


def test_a_terminal_shows_what_is_done_below_the_stage() -> None:
    console, clock = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None), FakeClock()
    with open_reporter(console, plain=False, clock=clock) as reporter:
        reporter.stage(Stage.PREFLIGHT)
        reporter.meter(waiting("smoke run " + "x" * 80), 0, 600)
        clock.turn(41)
        with paused(reporter):
            pass
    shown = [line for line in _said(console).splitlines() if "smoke run xxx" in line and "…" in line]
    assert shown
    assert all(len(line.rpartition("\x1b[2K")[2]) <= 60 for line in shown)


def test_a_real_clock_has_a_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    beats, beaten = [], threading.Event()

    def beat(screen: PlainScreen) -> None:
        beats.append(screen)
        beaten.set()

    monkeypatch.setattr(PlainScreen, "beat", beat)
    monkeypatch.setattr(progress_view, "_BEAT_S", 0.001)
    with open_reporter(_plain(), plain=True):
        assert beaten.wait(30)
    for thread in [one for one in threading.enumerate() if one.name == "harness-heartbeat"]:
        thread.join(30)
        assert not thread.is_alive()


def test_anything_may_be_counted() -> None:
    console, clock = _plain(), FakeClock()
    with open_reporter(console, plain=True, clock=clock) as reporter:
        reporter.stage(Stage.PREFLIGHT)
        for rows in (0, 4000, 8000):
            reporter.meter(Meter("rows", "rows"), rows, 8000)
            clock.turn(11)
    lines = _said(console).splitlines()
    assert lines[1:4] == [
        "  rows 0/8000, 0%",
        "  rows 4000/8000, 50%, 363.6 rows/s, 11 s left",
        "  rows 8000/8000, 100%, 363.6 rows/s",
    ]
    assert "  rows: 8000 rows in 22 s" in lines
