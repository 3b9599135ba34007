"""The data folder: built when it is not there, then read as it is. Needs no torch."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import builder, durable, rates, rows, runlog
from .config import Config
from .errors import DataDefect


@dataclass(frozen=True, slots=True)
class Data:
    """The training rows of the data folder, by file."""

    features: rows.DataFile[rows.Example]
    scenarios: rows.DataFile[rows.Example]
    pairs: rows.DataFile[rows.Preference]

    @property
    def examples(self) -> list[rows.Example]:
        """Every SFT row, features first."""
        return [*self.features.rows, *self.scenarios.rows]

    @property
    def files(self) -> dict[str, rows.DataFile[Any]]:
        """The files by the names that run.json gives them."""
        return {"features": self.features, "scenarios": self.scenarios, "pairs": self.pairs}


def prepare(config: Config) -> Data:
    """Read the data, building it first when the folder is not there; the log says how many rows there are.

    Files that are there are the user's and are taken as they are. Raises DataDefect.
    """
    folder = Path(config.data.folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        partial = folder.with_name(folder.name + durable.PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        builder.build(partial, history=rates.default_file(), eval_from=config.data.eval_from, seed=config.data.seed)
        try:
            if folder.is_dir():
                folder.rmdir()
            partial.rename(folder)
        except OSError as error:
            raise DataDefect(
                f"{folder} is a link or a mount without files ({error.strerror}); put the files there, or remove it"
            ) from error
    data = Data(
        rows.read_examples(folder / builder.FEATURE_FILE),
        rows.read_examples(folder / builder.SCENARIO_FILE),
        rows.read_preferences(folder / builder.PREFERENCE_FILE),
    )
    runlog.say(runlog.INTEGRATION, sft=len(data.examples), dpo=len(data.pairs.rows))
    for name, file in data.files.items():
        runlog.say(runlog.DATA, name=name, rows=len(file.rows), built=file.built, digest=file.sha256)
    return data
