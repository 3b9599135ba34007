"""The built-in checks of the asked stages join the command line: ``pytest checks --stage=postdownload`` anywhere.

A repository of your own holds your checks only. Its gate of a built-in stage needs the built-in ones beside
them, so their folder is collected too, unless the arguments already name it, lie above it, or name a part of it:
who asks for a part gets a part, and a gate that is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.core.lifecycle import ORDER

ALL = "all"
"""Word for all stages of the lifecycle."""


def asked_stages(options: Sequence[str]) -> list[str]:
    """The stages that the values of ``--stage`` name, each once."""
    given = [stage for option in options for stage in str(option).split(",") if stage]
    return list(dict.fromkeys(name for stage in given for name in (map(str, ORDER) if stage == ALL else [stage])))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Before pytest reads the arguments for good: the conftest.py files above the added folders load in time."""
    known = early_config.known_args_namespace
    stages = asked_stages(known.stage)
    if not stages:
        return
    from harness.gates import plan  # noqa: PLC0415 - a run that judges nothing does without the engine
    from harness.plugin.clones import as_ours  # noqa: PLC0415 - see above

    here = early_config.invocation_params.dir
    named = [str(argument) for argument in known.file_or_dir] or _default(early_config)
    paths = [argument.partition("::")[0] for argument in named]
    places = [_in_our_checks(path, plan.FOLDER) if known.pyargs else None for path in paths]
    ours = [as_ours(place or (here / path).resolve(), stages) for place, path in zip(places, paths, strict=True)]
    added = [
        str(folder) for folder in _built_in(plan.FOLDER, stages) if not any(_touch(place, folder) for place in ours)
    ]
    if added:
        more = added if known.file_or_dir else [*added, *named]
        args[:0] = more
        known.file_or_dir = [*more, *known.file_or_dir]


def _in_our_checks(module: str, checks: Path) -> Path | None:
    """Path of a module of the built-in checks; None for any other name."""
    return checks.joinpath(*module.split(".")[2:]) if f"{module}.".startswith("harness.checks.") else None


def _built_in(checks: Path, stages: Sequence[str]) -> list[Path]:
    folders = [checks / stage for stage in stages if stage in set(ORDER)]
    return [folder for folder in folders if folder.is_dir()]


def _default(config: pytest.Config) -> list[str]:
    """Paths that pytest collects when nothing is named."""
    here = config.invocation_params.dir
    settled = list(config.getini("testpaths")) if config.rootpath == here else []
    return [str(path) for pattern in settled for path in sorted(here.glob(pattern))] or [str(here)]


def _touch(place: Path, folder: Path) -> bool:
    return place.is_relative_to(folder) or folder.is_relative_to(place)
