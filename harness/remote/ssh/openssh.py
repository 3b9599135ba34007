"""A session of the system's own OpenSSH client with the harness's key and the pinned host keys. Pure.

No configuration of the user or the system is read (``-F none``): a shared connection, a forwarded agent or a proxy of
theirs would reach another machine than the pinned one, or let this one reach further than it should.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.core.ports import Endpoint

_OPTIONS = (
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "IdentitiesOnly=yes",
    "PasswordAuthentication=no",
    "KbdInteractiveAuthentication=no",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
)


def known_hosts(alias: str, pins: Sequence[str]) -> str:
    """The text of a ``known_hosts`` file that accepts these keys (``type base64``) for one name, and nothing else."""
    return "".join(f"{alias} {pin}\n" for pin in pins)


def command(
    program: str,
    endpoint: Endpoint,
    *,
    user: str,
    key: Path,
    hosts: Path,
    alias: str,
    words: Sequence[str] = (),
    terminal: bool = False,
) -> tuple[str, ...]:
    """The client's command line; ``words`` are joined with blanks for the box's shell, as ssh does it.

    ``alias`` is the name that the box's keys have in the file ``hosts``: it has several addresses, and they change.
    ``terminal``: the words are to have one, as a login shell has.
    """
    files = (f"IdentityFile={_quoted(key)}", f"UserKnownHostsFile={_quoted(hosts)}")
    options = (*_OPTIONS, f"HostKeyAlias={alias}", *files)
    told = [part for option in options for part in ("-o", option)]
    told += ["-t"] if terminal else []
    told += ["-J", endpoint.jump] if endpoint.jump else []
    where = ("-p", str(endpoint.port), "-l", user, "--", endpoint.host)
    return (program, "-F", "none", *told, *where, *words)


def _quoted(path: Path) -> str:
    """A path as ssh_config(5) takes it: a blank would begin another file, and a percent sign stands for something.

    Forward slashes are understood on Windows, too.
    """
    return f'"{path.as_posix().replace("%", "%%")}"'
