"""``limits.toml``: what it says, and what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import BadInput
from harness.ledger.limits import FILE, AccountLimits, Stops, load


def test_without_the_file_nothing_is_limited(tmp_path: Path) -> None:
    assert load(tmp_path) is None


def test_what_is_stated_is_limited(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('per_hour = 40\nper_month = 2500.5\nstop = "labelled"\n', encoding="utf-8")
    assert load(tmp_path) == AccountLimits(per_hour=40.0, per_month=2500.5, stop=Stops.LABELLED)


@pytest.mark.parametrize(
    "text",
    [
        "per_hour = 0",
        "per_day = -1",
        "per_month = nan",
        "per_week = 10",
        "per_hour = 'ten'",
        "stop = 'everything'",
        "per_hour 10",
        "[limits]\nper_hour = 10",
        "\x00",
        "per_hour = inf",
        "per_hour = true",
        "per_hour = '40'",
        "providers = 'vast'",
        "per_hour = 40\nper_hour = 400",
        f"per_hour = {'[' * 5000}{']' * 5000}",
    ],
)
def test_a_file_that_does_not_read_is_no_file_without_limits(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"limits\.toml does not read"):
        load(tmp_path)


@pytest.mark.parametrize("line", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old mac"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "with a mark"])
def test_a_file_of_any_editor_reads(mark: str, line: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(f"{mark}per_hour = 40{line}per_day = 300{line}".encode())
    assert load(tmp_path) == AccountLimits(per_hour=40.0, per_day=300.0)


@pytest.mark.parametrize("kind", ["link to nowhere", "link to itself", "folder", "utf-16"])
def test_what_stands_in_its_place_and_does_not_read_is_no_file_without_limits(kind: str, tmp_path: Path) -> None:
    """A share that is not mounted just now, above all."""
    file = tmp_path / FILE
    if kind == "folder":
        file.mkdir()
    elif kind == "utf-16":
        file.write_text("per_hour = 40", encoding="utf-16")
    else:
        file.symlink_to(file if kind == "link to itself" else tmp_path / "not-mounted" / FILE)
    with pytest.raises(BadInput, match=r"limits\.toml does not read"):
        load(tmp_path)


def test_a_home_that_cannot_be_looked_into_is_no_home_without_limits(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("", encoding="utf-8")
    with pytest.raises(BadInput, match=r"limits\.toml does not read"):
        load(tmp_path / "home")


def test_a_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"limits\.toml does not read"):
        load(tmp_path)
