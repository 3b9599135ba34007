"""Settings of a machine of one's own: the fields of a job file's table ``[provider]`` that are its kind's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, Field, field_validator


class SshSettings(BaseModel):
    """Settings of a machine of one's own."""

    PLACE: ClassVar[tuple[str, ...]] = ("host", "port", "user")

    host: Annotated[str, Field(pattern=r"^(?:[^\s@:-][^\s@:]*|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[^\s@]*)$")]
    """The machine: an address, or a name of ``~/.ssh/config``, whose other settings then hold, ProxyJump too."""
    port: Annotated[int, Field(gt=0, lt=1 << 16)] | None = None
    """Port of its SSH server, before that of ``~/.ssh/config``; not given anywhere, 22."""
    user: Annotated[str, Field(pattern=r"^[^\s@:-][^\s@:]*$")] | None = None
    """User who logs in, before that of ``~/.ssh/config``; not given anywhere, the one at the keyboard."""
    key: Path | None = None
    """The one key file to log in with; not given, an agent's and the usual ones, as ssh itself finds them."""
    host_key: tuple[Annotated[str, Field(pattern=r"^(ssh|ecdsa)-\S+ [A-Za-z0-9+/=]+( .*)?$")], ...] = ()
    """Host keys of the machine (``type base64``); not given, those of ``known_hosts``, else the first that it shows."""
    teardown_command: tuple[str, ...] = ()
    """A command that runs on the machine, in its home, before it is given back: once more where that was cut off."""
    clean: bool = False
    """The package's folder, with all that the training left there, and the harness's key are deleted at the end."""

    @field_validator("key")
    @classmethod
    def _whole(cls, key: Path | None) -> Path | None:
        if key is None or key.expanduser().is_absolute():
            return key
        raise ValueError("write the whole path, or one from your home on: ~/.ssh/id_ed25519")
