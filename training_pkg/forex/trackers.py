"""Trackers of a training's course, by ``run.trackers``: welcome, and never needed.

One that is not installed, or that fails, is told of in the log, and the training goes on without it. All of it stays on
this machine's disk, below ``models/output/runs``, until it is brought home; only a key in the environment
(``WANDB_API_KEY``) sends it anywhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import get_reporting_integration_callbacks

from . import manifest, runlog

FOLDER = Path("models/output/runs")
_PLAIN = re.compile(r"[\w.-]+(/[\w.-]+)*", re.ASCII)
_MOST, _LARGEST = 200, 64 << 20
"""Files that come home, and bytes of each, at most."""


class Trackers(TrainerCallback):  # type: ignore[misc]  # transformers publishes no types
    """The trackers of one training; each is dropped at its first failure."""

    def __init__(self, stage: str, names: tuple[str, ...]) -> None:
        self._stage = stage
        _keep_at_home(FOLDER / stage)
        self._inner: dict[str, Any] = {}
        for name in names:
            self._try(name, partial(self._open, name))

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Open the run."""
        self._each("on_train_begin", args, state, control, rest)

    def on_log(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Write down a step's numbers."""
        self._each("on_log", args, state, control, rest)

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Close the run's files."""
        self._each("on_train_end", args, state, control, rest)
        if "wandb" in self._inner:
            self._try("wandb", self._inner["wandb"]._wandb.finish)  # noqa: SLF001 - it has no other handle

    def _open(self, name: str) -> None:
        self._inner[name] = _made(name)

    def _each(self, event: str, args: Any, state: Any, control: Any, rest: dict[str, Any]) -> None:
        for name, inner in list(self._inner.items()):
            self._try(name, partial(getattr(inner, event), args, state, control, **rest))

    def _try(self, name: str, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the training is worth more
            self._inner.pop(name, None)
            told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            runlog.say(runlog.NOTE, stage=self._stage, text=f"no {name}, the training goes on without it: {told}")


def files() -> list[dict[str, Any]]:
    """Whatever the trackers wrote, as the manifest lists it."""
    return [manifest.entry(path, "tracker") for path in _written()][:_MOST]


def _written() -> Iterator[Path]:
    for path in sorted(FOLDER.rglob("*")):
        own = path.is_file() and not path.is_symlink() and _PLAIN.fullmatch(path.as_posix())
        if own and path.stat().st_size <= _LARGEST:
            yield path


def _made(name: str) -> Any:
    (kind,) = get_reporting_integration_callbacks([name])
    return kind()


def _keep_at_home(folder: Path) -> None:
    """Have each of them write below this folder; without a key none asks for one, or for anything, over the network."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TENSORBOARD_LOGGING_DIR"] = folder.as_posix()
    os.environ["TRACKIO_DIR"] = str(folder.resolve() / "trackio")
    os.environ["WANDB_DIR"] = str(folder.resolve())
    if not os.environ.get("WANDB_API_KEY"):
        os.environ["WANDB_MODE"] = "offline"
