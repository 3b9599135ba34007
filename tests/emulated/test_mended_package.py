"""A package that was launched, stopped by the launch gate and mended: it is sent anew to the same instance."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.ids import InstanceId
from harness.emulator.state import FIRST_ID
from harness.ledger.events import Closed, Rented
from tests.support.operator import SUPPORT, Operator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")
RIGHT, WRONG = " READY", " UNREADY"


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    shutil.copytree(SUPPORT / "quick_package", tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__"))
    scenario = tmp_path / "played.toml"
    scenario.write_text('about = "Nothing goes wrong by itself."', encoding="utf-8")
    where = (SUPPORT / "quick_package").as_posix()
    made = Operator(tmp_path, scenario.as_posix(), changes=((where, (tmp_path / "package").as_posix()),))
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_mended_package_takes_the_place_of_what_was_stopped(operator: Operator, tmp_path: Path) -> None:
    script = tmp_path / "package" / "train_quick.py"
    text = script.read_text(encoding="utf-8")
    script.write_text(text.replace(RIGHT, WRONG), encoding="utf-8")
    assert operator.run() == 3
    assert "v2_forex_integration_logged" in operator.said[-1].stderr
    script.write_text(text, encoding="utf-8")
    assert operator.run() == 0
    events = operator.events()
    assert [event.instance_id for event in events if isinstance(event, Rented)] == [InstanceId(FIRST_ID)]
    assert isinstance(events[-1], Closed)
    assert WRONG + "\n" not in (operator.directory / "companions/training.log").read_text(encoding="utf-8")
