"""The package's ``evaluation.json``: how often the trained model decided right on rows later than any it learned from.

It is written on the box, a stranger's text: shares outside of 0 to 1 and missing words are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from harness.core.errors import BadInput
from harness.core.text import misfits

FILE: Final = "evaluation.json"
MAX_BYTES: Final = 1 << 20

_Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Right decisions as a share of all, with its 95 % interval."""

    accuracy: _Share
    low: _Share
    high: _Share


@dataclass(frozen=True, slots=True)
class Decisions:
    """One kind of rows: the trained model beside the untrained base and the most frequent answer.

    ``doubts`` are the ways in which the answers could have been known without foresight.
    """

    rows: Annotated[int, Field(gt=0)]
    beats_majority: bool
    doubts: Annotated[tuple[str, ...], Field(max_length=20)]
    trained: Accuracy
    base: Accuracy
    majority: Accuracy


_KINDS: TypeAdapter[Mapping[str, Decisions]] = TypeAdapter(
    Annotated[Mapping[str, Decisions], Field(min_length=1, max_length=20)]
)


def read(data: bytes) -> Mapping[str, Decisions]:
    """The decisions by kind of rows. Raises BadInput naming the field that is wrong."""
    if len(data) > MAX_BYTES:
        raise BadInput(f"{FILE} is larger than {MAX_BYTES} bytes")
    try:
        return _KINDS.validate_json(data, strict=True)
    except ValidationError as error:
        raise BadInput(f"{FILE} does not tell how the model decided: {misfits(error, 'the text')[0]}") from error
