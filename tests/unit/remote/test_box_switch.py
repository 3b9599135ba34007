"""The switch on the box, by a clock that the test turns: each of its conditions broken once."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fcntl")

from harness.remote.box import heard, session
from harness.remote.box import switch as box

AFTER_S = 300.0


class _Over(Exception):
    """The time that a test gives the switch is over."""


@dataclass
class Night:
    """A box and its clocks: ``each`` is called at every look; ``asked`` says at which second a stop was asked for."""

    place: Path
    word: Path
    now: float = 1000.0
    until: float = 0.0
    alive: bool = False
    comes: Any = 200
    asked: list[float] = field(default_factory=list)
    each: Callable[[], None] = lambda: None
    began: float = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.each()
        if self.now > self.until:
            raise _Over

    def send(self, _request: Any, key: str) -> Any:
        assert key == "secret"
        self.asked.append(self.now - self.began)
        return self.comes

    def speak(self) -> None:
        """The harness is heard from."""
        mark = self.word.stat().st_mtime_ns + 1
        os.utime(self.word, ns=(mark, mark))

    def said(self) -> Any:
        """Last stop that was asked for, as it is written down."""
        return json.loads((self.place / "said.json").read_text())

    def pass_by(self, seconds: float) -> None:
        """The switch watches for so long."""
        self.began, self.until = self.now, self.now + seconds
        with pytest.raises(_Over):
            box.watch("job", str(self.place))


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    made = Night(tmp_path / "job" / ".harness" / "switch", tmp_path / ".harness" / "heard")
    made.place.mkdir(parents=True)
    made.word.parent.mkdir()
    made.word.touch()
    (made.place / "armed.json").write_text(json.dumps({"key": "secret", "key_id": 7, "after_s": AFTER_S, "stop": {}}))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    monkeypatch.setattr(time, "sleep", made.sleep)
    monkeypatch.setattr(box, "send", made.send)
    monkeypatch.setattr(session, "state", lambda _: {"alive": made.alive})
    return made


def test_it_asks_once_the_silence_is_long_enough(night: Night) -> None:
    night.pass_by(AFTER_S + 12)
    assert len(night.asked) == 1
    assert AFTER_S <= night.asked[0] <= AFTER_S + 10
    assert (night.said()["came"], night.said()["idle_s"] >= AFTER_S) == (200, True)


def test_a_training_that_lives_is_never_stopped(night: Night) -> None:
    night.alive = True
    night.pass_by(100 * AFTER_S)
    assert not night.asked
    night.alive = False
    night.pass_by(AFTER_S - 10)
    assert not night.asked, "the silence counts from the training's end"


def test_a_training_that_is_launched_again_is_waited_for(night: Night) -> None:
    start = night.now

    def each() -> None:
        night.alive = start + 250 < night.now < start + 4000

    night.each = each
    night.pass_by(4000 + AFTER_S + 12)
    assert night.asked
    assert night.asked[0] > 4000 + AFTER_S - 2 * box.POLL_S


def test_who_is_heard_from_is_not_stopped_under(night: Night) -> None:
    night.each = lambda: night.speak() if int(night.now) % 250 < 5 else None
    night.pass_by(20 * AFTER_S)
    assert not night.asked


@pytest.mark.parametrize("seconds", [1e3, 1e7])
def test_a_clock_that_jumps_and_a_machine_that_is_paused_do_not_count(night: Night, seconds: float) -> None:
    jumps = [night.now + 50, night.now + 100]

    def each() -> None:
        if jumps and night.now > jumps[0]:
            jumps.pop(0)
            night.now += seconds
            night.until += seconds

    night.each = each
    night.pass_by(AFTER_S - 30)
    assert not jumps
    assert not night.asked


@pytest.mark.parametrize("turned", [-1e8, 1e8])
def test_a_wall_clock_that_is_set_counts_for_nothing(
    night: Night, turned: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: night.now + turned)
    night.pass_by(AFTER_S - 10)
    assert not night.asked


@pytest.mark.parametrize("came", [403, 401, 429, 503, 404, "URLError: no route to host"])
def test_it_goes_on_asking_calmly_and_says_what_came(night: Night, came: Any) -> None:
    night.comes = came
    night.pass_by(4 * 3600)
    apart = [after - before for before, after in zip(night.asked, night.asked[1:], strict=False)]
    assert apart[0] >= box.FIRST_PAUSE_S
    assert apart == sorted(apart)
    assert box.LONGEST_PAUSE_S <= apart[-1] <= box.LONGEST_PAUSE_S + 2 * box.POLL_S
    assert night.said()["came"] == came


def test_between_two_tries_it_still_hears(night: Night) -> None:
    night.comes = 503
    spoken = night.now + 4 * 3600

    def each() -> None:
        if spoken <= night.now < spoken + box.POLL_S:
            night.speak()

    night.each = each
    night.pass_by(4 * 3600 + AFTER_S + 40)
    asked = [at - 4 * 3600 for at in night.asked if at > 4 * 3600]
    assert AFTER_S <= asked[0] < AFTER_S + 20, "no sooner, and no later for what failed before"
    assert asked[1] - asked[0] < 2 * box.FIRST_PAUSE_S


def test_what_cannot_be_looked_at_may_train(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(_: str) -> Any:
        raise ValueError(".harness/launch.json is damaged")

    monkeypatch.setattr(session, "state", damaged)
    night.pass_by(10 * AFTER_S)
    assert not night.asked


def test_a_full_disk_keeps_nothing_from_being_stopped(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(box, "_write", full)
    night.pass_by(AFTER_S + 12)
    assert night.asked


@pytest.mark.parametrize("left", [None, "", "{"], ids=["gone", "empty", "torn"])
def test_without_a_key_it_ends(night: Night, left: str | None) -> None:
    (night.place / "armed.json").unlink()
    if left is not None:
        (night.place / "armed.json").write_text(left)
    night.until = night.now
    box.watch("job", str(night.place))
    assert not night.asked


def test_a_change_of_the_silence_counts_at_once(night: Night) -> None:
    night.pass_by(200)
    kept = json.loads((night.place / "armed.json").read_text())
    (night.place / "armed.json").write_text(json.dumps({**kept, "after_s": 3000.0}))
    night.pass_by(2000)
    assert not night.asked


def test_a_word_is_left_once_a_second_and_only_where_a_switch_is_armed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heard, "_last", [-heard.EVERY_S])
    heard.touch()
    word = tmp_path / ".harness" / "heard"
    assert not word.exists()
    word.parent.mkdir()
    word.touch()
    marks = []
    for now[0] in (0.5, 1.5, 2.0, 2.6):
        os.utime(word, (0, 0))
        heard.touch()
        marks.append(word.stat().st_mtime > 0)
    assert marks == [False, True, False, True]
