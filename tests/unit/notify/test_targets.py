"""Notifications arrive, or it is said that they did not, in time and without the URL."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import apprise
import pytest
from apprise.decorators import notify

from harness.core.errors import BadInput, MissingExtra
from harness.notify import targets
from harness.notify.targets import Notice, Occasion, require_usable, send

HELD = Notice(Occasion.HELD, "job night is held at training", "loss_is_sane\nInstance 4711 bills $16.00/h.")
SECRET = "hunter2-token"


@pytest.fixture
def heard() -> Iterator[list[tuple[str, str]]]:
    """What Apprise was given for URLs of the scheme ``gshtest``, which answers as its host says."""
    got: list[tuple[str, str]] = []
    release = threading.Event()

    def answer(body: str, title: str, notify_type: Any, *_: Any, meta: Any, **__: Any) -> bool:
        del notify_type
        match meta["host"]:
            case "raises":
                raise RuntimeError(f"cannot reach {meta['url']}")
            case "hangs":
                release.wait(30)
        got.append((title, body))
        return bool(meta["host"] != "refuses")

    notify(on="gshtest")(answer)
    yield got
    release.set()
    apprise.NotificationManager().remove("gshtest")


def test_a_file_gets_a_line_for_each(tmp_path: Path) -> None:
    file = tmp_path / "notices of mine.jsonl"
    assert send(HELD, [file.as_uri()]) == ()
    assert send(Notice(Occasion.CLOSED, "job night is closed", "x"), [file.as_uri()]) == ()
    first, second = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert (first["occasion"], first["title"], first["body"]) == ("held", HELD.title, HELD.body)
    assert second["occasion"] == "closed"
    assert first["at"] > 1_700_000_000


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (problem,) = send(HELD, [(tmp_path / "no" / "such").as_uri()])
    assert problem == 'the notification "held" did not reach target 1 (file): No such file or directory'


def test_a_service_that_apprise_knows_is_told(heard: list[tuple[str, str]]) -> None:
    assert send(HELD, ["gshtest://takes/" + SECRET]) == ()
    assert heard == [(HELD.title, HELD.body)]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("gshtest://refuses/" + SECRET, "(gshtest): the service did not take it"),
        ("gshtest://raises/" + SECRET, "(gshtest): "),
        ("nosuchscheme://x/" + SECRET, "(nosuchscheme): Apprise does not understand the URL"),
        (SECRET, "(no URL): "),
    ],
)
def test_what_does_not_arrive_is_said_without_the_url(
    url: str, why: str, heard: list[tuple[str, str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The other targets are told all the same."""
    file = tmp_path / "notices"
    (problem,) = send(HELD, [url, file.as_uri()])
    assert why in problem
    assert "target 1" in problem
    said = capfd.readouterr()
    assert SECRET not in problem + said.out + said.err
    assert file.exists()
    assert len(heard) <= 1


def test_a_target_that_hangs_delays_nothing_for_long(
    heard: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "WAIT_S", 0.3)
    file, began = tmp_path / "notices", time.monotonic()
    problems = send(HELD, ["gshtest://hangs/" + SECRET, "gshtest://hangs/again", file.as_uri()])
    assert time.monotonic() - began < 5
    assert [problem.partition(": ")[2] for problem in problems] == ["no answer within 0 s", "no answer within 0 s"]
    assert file.exists()
    assert heard == []


def test_without_apprise_a_file_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(targets, "find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "apprise", None)
    require_usable(["file:///x"])
    assert send(HELD, [(tmp_path / "x").as_uri()]) == ()
    with pytest.raises(MissingExtra, match="notifying ntfy://") as raised:
        require_usable(["file:///x", "ntfy://" + SECRET])
    assert "gold-standard-harness[notify]" in raised.value.remedy
    (problem,) = send(HELD, ["ntfy://" + SECRET])
    assert SECRET not in problem + str(raised.value)


@pytest.mark.parametrize("url", ["", "just words", SECRET, "//host/x", "[::1"])
def test_what_is_no_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(BadInput, match="target 2 is no URL") as raised:
        require_usable(["file:///x", url])
    assert SECRET not in str(raised.value) + raised.value.remedy


def test_nobody_to_tell_is_no_problem() -> None:
    assert send(HELD, []) == ()
    require_usable([])
    assert isinstance(apprise, ModuleType)
