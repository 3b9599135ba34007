"""What the box installs is what was rehearsed here, and never another torch than the image brought."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OLDEST_TORCH = "2.6.0"
"""The oldest that the package agrees to train with."""


def named(lines: Iterable[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


BOX = named((ROOT / "training_pkg" / "requirements.txt").read_text(encoding="utf-8").splitlines())
HERE = named(
    tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]["training"]
)


def test_no_torch_is_asked_for() -> None:
    assert not {name for name in BOX if name.startswith(("torch", "nvidia", "triton"))}


@pytest.mark.parametrize("name", BOX)
def test_nothing_that_is_installed_asks_for_another_torch(name: str) -> None:
    asked = [Requirement(line) for line in requires(name) or []]
    torch = [one for one in asked if one.name == "torch" and (one.marker is None or one.marker.evaluate({"extra": ""}))]
    assert all(one.specifier.contains(OLDEST_TORCH) for one in torch), torch


@pytest.mark.parametrize("name", BOX)
def test_what_is_rehearsed_here_satisfies_the_box(name: str) -> None:
    assert BOX[name].specifier.contains(version(name))


@pytest.mark.parametrize("name", sorted(set(BOX) & set(HERE)))
def test_both_sides_ask_for_the_same(name: str) -> None:
    assert BOX[name].specifier == HERE[name].specifier
