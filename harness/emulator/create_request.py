"""Request for a new instance, as the API takes it."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from harness.emulator.request import Image, Integer, Label, Number, Onstart, Price, Request, VolumeSize

MIN_DISK_GB = 8
MAX_ARGUMENTS = 4096
"""Characters of ``args`` and ``onstart`` together."""


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

    @model_validator(mode="after")
    def _short_enough(self) -> Self:
        if sum(map(len, map(str, self.args))) + len(self.onstart) > MAX_ARGUMENTS:
            raise ValueError(f"args and onstart are longer than {MAX_ARGUMENTS} characters")
        return self
