"""A scenario: a market, a pace and a list of things that go wrong, as data (TOML).

Every table is checked when it is read; what is unknown is refused by name, so that
a fault that is misspelt is not a fault that silently never happens.
"""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from harness.core.errors import BadInput
from harness.core.ports import InstanceStatus
from harness.core.text import did_you_mean, misfits
from harness.emulator.market import Ask
from harness.emulator.rental import Timing


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class When(_Table):
    """When a thing happens: both conditions must hold. Without any it is at once."""

    running_s: float = 0.0
    """Seconds since the instance began to run (0: it need not run)."""
    file: str = ""
    """A file on the box, relative to its root, with ``*`` allowed: it must exist and match ``text``."""
    text: str = ""
    """A regular expression, searched in the last 64 KiB of the file."""

    @field_validator("file")
    @classmethod
    def _inside_the_box(cls, value: str) -> str:
        if value.startswith("/") or ".." in value.split("/"):
            raise ValueError("a path inside the box, without a leading slash or '..'")
        return value

    @field_validator("text")
    @classmethod
    def _is_an_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value


class ApiFault(_Table):
    """One fault of the HTTP API."""

    route: str = Field(pattern=r"^(\*|GET|PUT|POST|DELETE) /")
    """Method and path, as in ``DELETE /api/v0/instances/{id}``; ``*`` is any method, ``{id}`` any number."""
    do: Literal["reply", "edit", "hang", "drop", "truncate"]
    """Answer something else; change the JSON answer; never answer; close the connection; close it in mid-body."""
    after: int = 0
    """How many matching requests pass unharmed first."""
    times: int = 1
    """How many requests are hit; 0 means all that follow."""
    commit: bool = False
    """True: the request takes effect although the answer is spoiled (``edit`` and ``truncate`` always do)."""
    status: int = 200
    body: str = ""
    content_type: str = "application/json"
    headers: dict[str, str] = Field(default_factory=dict)
    set: dict[str, JsonValue] = Field(default_factory=dict)
    """``edit``: members to set; ``instances.label`` is a member of an object, or of every one in a list."""
    unset: tuple[str, ...] = ()
    """``edit``: members to leave out."""
    cut: dict[str, int] = Field(default_factory=dict)
    """``edit``: texts to cut to so many characters."""
    when: When = When()


class SshFault(_Table):
    """One fault of the SSH side. Bytes are counted per session, from the box to the client."""

    do: Literal["refuse", "deny", "banner", "stall", "cut", "cap", "end", "zero", "flip"]
    """Refuse connections; deny the key; send a banner before login; stop sending; cut the connection; cap the rate;
    end the output early with status 0; send zeros from there on; flip one bit."""
    after_bytes: int = 0
    """Where in a session's output it strikes; sessions that send less are never hit."""
    after: int = 0
    times: int = 1
    """How many connections (``refuse``, ``deny``) or sessions are hit; 0 means all."""
    bytes_per_s: float = 0.0
    seconds: float = 0.0
    """``stall``: how long, in real seconds; 0 means until the client gives up."""
    text: str = ""
    route: Literal["both", "direct", "proxy"] = "both"
    when: When = When()


class LifeEvent(_Table):
    """Something that happens to an instance."""

    do: Literal[
        "become", "stop", "outbid", "restart", "reboot", "credit", "price", "end", "disk", "wrong_gpu", "damage"
    ]
    """Become a status; be stopped; be outbid; restart the container; reboot (new port and host key); lose credit;
    have the host offer to go on for another price, which stays pending until the renter answers; end in ``days``;
    leave ``bytes`` of room under ``path``; show other GPUs; damage a file on the box."""
    status: InstanceStatus = InstanceStatus.EXITED
    status_msg: str = ""
    usd: float = 0.0
    """``credit``: what is left. ``price``: the new one by the hour."""
    days: float = 30.0
    """``price``, ``end``: how long the instance may go on, from then."""
    path: str = ""
    bytes: int = 0
    gpu_name: str = ""
    num_gpus: int = 0
    damage: Literal["cut", "zeros", "flip"] = "cut"
    """Cut the file by ``bytes``; cut and zero-extend it again; flip one bit that many bytes before its end."""
    times: int = 1
    when: When = When()


class RenterAccount(_Table):
    """The renter's account."""

    user_id: int = 424_242
    email: str = "operator@example.invalid"
    credit_usd: float = 100.0
    grace_s: float = 48 * 3600.0
    """How long instances of an account without credit are kept, stopped, before they are destroyed."""


class Scenario(_Table):
    """Everything that can be said about a rehearsal."""

    name: str = "calm"
    about: str = "Nothing goes wrong."
    ends: Literal["closed", "held"] = "closed"
    """How a careful operator's job ends: closed with a verified file, or held with the disk alive."""
    market: Literal["default", "own"] = "default"
    offer: tuple[Ask, ...] = ()
    """Offers added to the default market, or, with ``market = "own"``, the whole of it."""
    account: RenterAccount = RenterAccount()
    pace: Timing = Timing()
    bad_key_status: Literal[401, 404] = 404
    rate_limits: bool = False
    stop_keeps_disk: bool = True
    """False: a stop loses the box's disk, as no service says that it does."""
    isolation: Literal["auto", "none"] = "auto"
    api: tuple[ApiFault, ...] = ()
    ssh: tuple[SshFault, ...] = ()
    life: tuple[LifeEvent, ...] = ()

    @model_validator(mode="after")
    def _own_market_has_offers(self) -> Scenario:
        if self.market == "own" and not self.offer:
            raise ValueError("market = 'own' needs at least one [[offer]]")
        return self


CALM = Scenario()


def names() -> tuple[str, ...]:
    """The scenarios that come with the emulator."""
    folder = resources.files("harness.emulator") / "scenarios"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load(name_or_file: str | Path | None) -> Scenario:
    """A scenario by name or file; None is the calm one. Raises BadInput naming the file and the field."""
    if name_or_file is None:
        return CALM
    text, source = _read(str(name_or_file))
    try:
        return Scenario.model_validate({"name": Path(source).stem, **tomllib.loads(text)})
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{source}: not TOML: {error}") from None
    except ValidationError as error:
        raise BadInput(f"{source}: {'; '.join(misfits(error, 'file'))}") from None


def _read(name: str) -> tuple[str, str]:
    if name in names():
        return (resources.files("harness.emulator") / "scenarios" / f"{name}.toml").read_text("utf-8"), f"{name}.toml"
    try:
        return Path(name).read_text("utf-8"), name
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise BadInput(
            f"no scenario {name!r}: {reason}",
            remedy=f"{did_you_mean(name, names())}Give a TOML file, or one of: {', '.join(names())}.",
        ) from None
