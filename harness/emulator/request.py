"""Base of every request that the API reads: a pydantic model, refused with 400 where it does not fit."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.emulator.refusal import Refusal

Integer = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Price = Annotated[Number, Field(ge=0.001, le=128)]
"""USD per hour."""
Image = Annotated[str, Field(max_length=1024)]
VolumeSize = Annotated[Number, Field(gt=0, le=1e6)]
"""GB."""
Label = Annotated[str, Field(max_length=256)]
Onstart = Annotated[str, Field(max_length=4096)]

_ERRORS = {"price": "invalid_price", "ssh_key": "no_ssh_key", "after_token": "invalid_token"}
"""Members whose refusal has an error word of its own."""


class Request(BaseModel):
    """JSON object or query that was sent. A null member counts as not sent; members it does not name are ignored."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data

    @classmethod
    def read(cls, data: object, error: str = "invalid_args") -> Self:
        """Read it; raises Refusal(400) that names the first member which does not fit."""
        try:
            return cls.model_validate(data)
        except ValidationError as problem:
            first = problem.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise Refusal(400, _ERRORS.get(where, error), f"{where}: {first['msg']}") from None
