"""A box by its address alone, as ``scp`` would reach it, and the SSH keys that open boxes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core import environment
from harness.core.clock import SystemClock
from harness.core.errors import BadInput
from harness.core.ports import Endpoint, Host

if TYPE_CHECKING:
    from harness.remote.ssh.own_keys import OwnKeys

_WAITS_S = 10.0
"""How long a box that somebody names by its address is waited for: it runs, or the address is wrong."""
_NOT_A_FILE_NAME = re.compile(r"[^A-Za-z0-9.-]")


def open_box(host: str, port: int | None, user: str | None, key: Path | None, name: str) -> tuple[Host, Path | None]:
    """A box by its address alone, as ``scp`` would reach it; and the file that will hold its host key from then on.

    The file is None where ``known_hosts`` or an earlier contact has the key. ``port`` and ``user`` go before what
    ``~/.ssh/config`` says. Raises BadInput when neither knows the port.
    """
    from harness.remote.host import SshHost  # noqa: PLC0415 - loads paramiko
    from harness.remote.ssh.connection import Login  # noqa: PLC0415 - loads paramiko

    own, home = own_keys(key, host), environment.home()
    settings = own.settings(host)
    told = port or settings.get("port")
    if not str(told).isdecimal():
        raise BadInput("--ssh-host needs --port, or a Port for that host in ~/.ssh/config")
    endpoint = Endpoint(str(settings["hostname"]), int(str(told)), jump=str(settings.get("proxyjump", "")))
    pin = home / "hosts" / _NOT_A_FILE_NAME.sub("_", f"{name}-{endpoint.port}")
    known = own.known([endpoint])
    login = Login(user or settings.get("user") or "root", (endpoint,), key_of(home), known, pin, own)
    return SshHost(login, SystemClock(), patience=_WAITS_S), None if known or pin.exists() else pin


def own_keys(key: Path | None, alias: str | None = None) -> OwnKeys:
    """Keys of the operator's own, as ``ssh`` would try them for this host; ``key``: this one alone."""
    from harness.remote.ssh.own_keys import OwnKeys  # noqa: PLC0415 - loads paramiko

    return OwnKeys(environment.user_home() / ".ssh", key, alias)


def key_of(home: Path) -> Path:
    """The harness's own SSH key for rented boxes; it may not be there yet."""
    return home / "ssh" / "id_ed25519"
