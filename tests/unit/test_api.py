"""The names that check authors may rely on: all of the facts, nothing heavy, every field described by a type."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

from harness import api
from harness.core.lifecycle import Stage


def test_every_stage_has_its_facts_there() -> None:
    for stage in Stage:
        name = f"{stage.capitalize()}Facts"
        assert dataclasses.is_dataclass(getattr(api, name))
        assert name in api.__all__


def test_what_is_declared_is_there_and_nothing_more_is_public() -> None:
    public = {name for name in vars(api) if name.isidentifier() and not name.startswith("_")}
    assert public == set(api.__all__)


def test_it_loads_no_adapter() -> None:
    code = "import sys, harness.api; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "vastai", "paramiko", "sqlalchemy"} & set(done.stdout.split())
