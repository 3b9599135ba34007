"""The rows that a job trains on, as its file states them: what lies in the package, and what the log must say of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from harness.artifacts.dataset.contract import Teaching
from harness.job.table import Table
from harness.log import grammar
from harness.log.grammar import Trainer
from harness.log.proof import ProofLine

Share = Annotated[float, Field(ge=0, le=1)]
Kind = Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]
TrainerName = Annotated[Trainer, Field(pattern=f"^{grammar.NAME}$")]


def _kept_files(files: dict[str, DataFile]) -> dict[str, DataFile]:
    return {kind: one for kind, one in files.items() if one.rows}


def _proof_line(text: str) -> str:
    line = ProofLine(text)
    if grammar.parse_line(line.stating(dict.fromkeys(line.trainers, 1))) is not None:
        raise ValueError("the log says something else with this line")
    return text


class DataFile(Table):
    """One file of rows that must be in the package, and the trainer that learns from them.

    ``rows`` = 0 takes a file of the profile out.
    """

    file: str
    rows: Annotated[int, Field(ge=0)]
    trainer: TrainerName
    rows_are: Teaching = Teaching.EXAMPLES


class DataTable(Table):
    """The rows that must be in the package, and so in the proof line of the training's log.

    Without files the package brings its own data, and no check of the plan speaks of them.
    """

    proof_line: Annotated[str, AfterValidator(_proof_line)] | None = None
    """Line that the log must show before its first step, with ``{sft}`` in the place of the rows that ``sft`` gets."""
    directory: str = "."
    files: Annotated[dict[Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")], DataFile], AfterValidator(_kept_files)] = (
        Field({})
    )
    """The files by the kind of their rows."""
    max_duplicate_share: Share = 0.01
    max_class_share: Share = 0.9
    max_flawed_share: Share = 0.01
    """Share of a file's rows that may hold words which look like a defect: in a few they are what the row is about."""
    max_cut_share: Share = 0.02
    allow_built_rows: bool = False
    """Rows that a program made, as each says in ``built_by``, are trained on: for rehearsals."""
    ignored_rules: tuple[str, ...] = ()
    """Rules of soundness that this data does without, by the name that a finding shows."""

    @property
    def paths(self) -> dict[str, str]:
        """The data files by kind: paths relative to the package's directory, POSIX style."""
        return {kind: PurePosixPath(self.directory, one.file).as_posix() for kind, one in self.files.items()}

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each file, by kind."""
        return {kind: one.rows for kind, one in self.files.items()}

    @property
    def rows(self) -> dict[str, int]:
        """Rows that each trainer gets."""
        return self.by_trainer(self.counts)

    def by_trainer(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Rows by trainer, of rows by kind; a kind that is not counted has none."""
        found: dict[str, int] = {}
        for kind, one in self.files.items():
            found[one.trainer] = found.get(one.trainer, 0) + counts.get(kind, 0)
        return found

    @property
    def proof(self) -> ProofLine | None:
        """The proof line, as the log's grammar reads it."""
        return None if self.proof_line is None else ProofLine(self.proof_line)

    @property
    def demanded_line(self) -> str | None:
        """The line that the training log must show, word for word."""
        return None if self.proof is None else self.proof.stating(self.rows)

    @model_validator(mode="after")
    def _proves_all_rows(self) -> DataTable:
        if self.proof is not None and set(self.proof.trainers) != set(self.rows):
            wanted = ", ".join(f"{{{trainer}}}" for trainer in self.rows) or "none, for there are no files"
            raise ValueError(f"proof_line states the rows of every trainer that has files, once each: {wanted}")
        return self
