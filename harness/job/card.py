"""The table ``[card]`` of a job file: what only a person can say of the model, for its model card."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from harness.job.table import Table

_Word = Annotated[str, Field(pattern=r"^[\w.+-]+$", max_length=96)]
_HubId = Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$", max_length=200)]
_Line = Annotated[str, Field(min_length=1, max_length=400, pattern=r"^[^\r\n]+$")]


class CardTable(Table):
    """Fields of the model card's head. What is not stated is left out of it, or said to be unknown."""

    license: Annotated[str, Field(pattern=r"^[a-z0-9.-]{1,64}$")] | None = None
    """The Hub's name of the license, such as ``apache-2.0``; ``other`` with ``license_name``, ``license_link``."""
    license_name: _Line | None = None
    license_link: _Line | None = None
    datasets: tuple[_HubId, ...] = ()
    """Datasets by their names on the Hub; the files that were trained on are in the card in any case."""
    language: tuple[_Word, ...] = ()
    tags: tuple[_Word, ...] = ()

    @model_validator(mode="after")
    def _names_another(self) -> CardTable:
        if self.license != "other" and (self.license_name or self.license_link):
            raise ValueError('license_name and license_link describe a license = "other"')
        return self
