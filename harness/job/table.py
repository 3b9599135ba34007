"""Base of a job file's tables: frozen, and strict about their fields."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(gt=0)]
FROM_FILE: Final = "job file"
"""Validation context of a job that a person wrote, not one that was recorded."""


class Table(BaseModel):
    """A table of the job file: frozen, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
