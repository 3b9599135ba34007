"""Requests that the API reads: pydantic models, refused with 400 where one does not fit; that for a new instance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

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

MIN_DISK_GB = 8
MAX_ARGUMENTS = 4096
"""Characters of ``args`` and ``onstart`` together."""

_ERRORS = {"price": "invalid_price", "ssh_key": "no_ssh_key", "after_token": "invalid_token"}
"""Members whose refusal has an error word of its own."""


def given(members: Mapping[str, Any]) -> dict[str, Any]:
    """The members of what was sent that count as sent: none that is null."""
    return {name: value for name, value in members.items() if value is not None}


class Request(BaseModel):
    """JSON object or query that was sent. A null member counts as not sent; members it does not name are ignored."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        return given(data) if isinstance(data, dict) else data

    @classmethod
    def read(cls, data: object, error: str = "invalid_args") -> Self:
        """Read it; raises Refusal(400) that names the first member which does not fit."""
        try:
            return cls.model_validate(data)
        except ValidationError as problem:
            first = problem.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise Refusal(400, _ERRORS.get(where, error), f"{where}: {first['msg']}") from None


class VolumeRequest(Request):
    """Volume of a new instance: one to create (``volume_id`` is an offer's number, size in GB), or one that exists."""

    volume_id: Integer
    mount_path: Annotated[str, Field(max_length=1024)]
    create_new: bool = False
    size: VolumeSize = 15.0
    name: Label = ""

    @field_validator("mount_path")
    @classmethod
    def _below_the_root(cls, place: str) -> str:
        if not place.startswith("/") or not place.strip("/") or ".." in place.split("/"):
            raise ValueError("must be absolute and below /")
        return place


class InstanceRequest(Request):
    """Instance to create. Disk in GB; ``price`` is the bid of an interruptible one in USD per hour, None on demand."""

    image: Annotated[Image, Field(min_length=1)]
    disk: Annotated[Number, Field(ge=MIN_DISK_GB)] = 10.0
    label: Label | None = None
    onstart: Onstart = ""
    args: tuple[Any, ...] = ()
    env: dict[str, Annotated[str, BeforeValidator(str)]] = Field(default_factory=dict)
    runtype: Label = "ssh"
    price: Price | None = None
    volume_info: VolumeRequest | None = None
    template_hash_id: Label | None = None

    @model_validator(mode="after")
    def _short_enough(self) -> Self:
        if sum(map(len, map(str, self.args))) + len(self.onstart) > MAX_ARGUMENTS:
            raise ValueError(f"args and onstart are longer than {MAX_ARGUMENTS} characters")
        return self
