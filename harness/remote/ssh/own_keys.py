"""Keys of the person at the keyboard, as stock ``ssh`` finds them: agent, ``~/.ssh/config``, the usual files.

The order is ssh's own: an agent's keys that the configuration names, the agent's others, then the files. The harness's
key comes last. ``ProxyCommand`` is not followed, and of
``Match exec`` nothing is run: what stands below it does not apply.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.agent import AgentSSH
from paramiko.ssh_exception import BadAuthenticationType, PasswordRequiredException, SSHException

from harness.core import environment
from harness.core.errors import BadInput, HostUnreachable
from harness.core.ports import Endpoint
from harness.core.reading import readable

_USUAL: Final = ("id_ed25519", "id_ecdsa", "id_rsa")
_TRIES: Final = 5
"""Keys offered over one connection: sshd ends one at the sixth refusal (MaxAuthTries)."""
_DEEPEST: Final = 16
"""Files that include each other, as many deep as ssh itself reads."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One private key, in a file or held by an agent, and its name as people know it."""

    name: str
    key: paramiko.PKey


class KeysRefused(Exception):
    """So many keys, the first of those offered, were refused over one connection."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} keys were refused")
        self.count = count


@dataclass(slots=True)
class OwnKeys:
    """``folder`` is ``~/.ssh``; ``only`` is the one key file that was named on the command line.

    ``alias`` is the host as it was typed, where ``config`` may give it another name.
    """

    folder: Path
    only: Path | None = None
    alias: str | None = None
    _accepted: str = field(default="", init=False)

    def settings(self, host: str) -> Mapping[str, Any]:
        """Settings of ``config`` for a host, names in small letters.

        Raises BadInput for a file that does not read, unless a key was named: then it is done without.
        """
        file = self.folder / "config"
        try:
            config = paramiko.SSHConfig.from_text("\n".join(_lines(file, self.folder, _DEEPEST)))
            return dict(config.lookup(self.alias or host))
        except (SSHException, OSError, ValueError, KeyError) as error:
            if self.only is not None:
                return {"hostname": host}
            raise BadInput(
                f"{file} cannot be read: {' '.join(str(error).split())[:200]}",
                remedy="Mend the line named above, or do without that file: --key FILE (-Key of the script).",
            ) from error

    def known(self, endpoints: Iterable[Endpoint]) -> tuple[str, ...]:
        """Host keys (``type base64``) that ``known_hosts`` has for these addresses; none for an unknown host."""
        return tuple(dict.fromkeys(key for one in endpoints for key in self._known(one)))

    def _known(self, endpoint: Endpoint) -> Iterator[str]:
        settings = self.settings(endpoint.host)
        name = settings.get("hostkeyalias") or known_name(endpoint)
        for file in settings.get("userknownhostsfile", "known_hosts known_hosts2").split():
            path = self.folder / Path(file).expanduser()
            if path.is_file():
                yield from _listed(path, name)

    @contextlib.contextmanager
    def offers(self, host: str, last: Path) -> Iterator[tuple[Sequence[Identity], Sequence[str]]]:
        """Usable keys in their order, the one that was let in before first; and why the others are of no use.

        ``last`` is tried after all of them, where it is. An agent is asked for signatures while the block runs.
        """
        settings = self.settings(host)
        named = _named(settings) if self.only is None else [self.only]
        files = named if named is not None else [self.folder / name for name in _USUAL]
        with contextlib.closing(_Agent()) as agent:
            unusable = agent.ask(str(settings.get("identityagent", "")), self.folder)
            public = [_public(file) for file in files]
            held = [key for blob in public for key in agent.get_keys() if key.blob == blob]
            if self.only is None and settings.get("identitiesonly", "no").lower() != "yes":
                held += [key for key in agent.get_keys() if key.blob not in public]
            found = [Identity(f"{key.comment or key.get_name()} (agent)", key) for key in held]
            blobs = {key.blob for key in held}
            for file, blob in zip(files, public, strict=True):
                if blob not in blobs and (named is not None or file.exists()):
                    _read(file, found, unusable)
            if self.only is None and last.exists():
                _read(last, found, unusable)
            yield sorted(found, key=lambda offer: offer.name != self._accepted), unusable

    def log_in(self, transport: paramiko.Transport, user: str, offers: Sequence[Identity]) -> None:
        """Offer keys until one is let in. Raises KeysRefused, or HostUnreachable where no key is taken at all."""
        for position, offer in enumerate(offers[:_TRIES]):
            try:
                transport.auth_publickey(user, offer.key)
            except BadAuthenticationType as error:
                ways = ", ".join(error.allowed_types)
                raise HostUnreachable(f"the box lets nobody in with a key, but by {ways}") from error
            except (SSHException, EOFError, OSError) as error:
                if transport.is_active():
                    continue
                if position == 0:
                    raise HostUnreachable(f"the connection was ended: {str(error)[:200] or 'EOF'}") from error
                raise KeysRefused(position) from error
            self._accepted = offer.name
            return
        raise KeysRefused(min(len(offers), _TRIES))


def nobody(user: str, where: str, offers: Sequence[Identity], unusable: Sequence[str]) -> BadInput:
    """The error for a box that lets none of the keys in."""
    tried = ", ".join(offer.name for offer in offers)
    told = "".join(f"; {one}" for one in unusable)
    said = f"{where} lets {user} in with no key that is here; tried: {tried}"
    return BadInput(
        (said if offers else f"there is no key on this machine to log in to {where} with") + told,
        remedy="Name the key whose public half the instance has: --key FILE (-Key of the script); ssh-add FILE unlocks "
        "one that has a passphrase.",
    )


def known_name(endpoint: Endpoint) -> str:
    """The name under which ``known_hosts`` lists an address, as ``ssh-keygen -R`` wants it."""
    return endpoint.host if endpoint.port == 22 else f"[{endpoint.host}]:{endpoint.port}"


class _Agent(AgentSSH):
    """An SSH agent over a connection of its own; without keys where there is none."""

    def ask(self, named: str, folder: Path) -> list[str]:
        """Connect to the agent that IdentityAgent names, else to the environment's; why that cannot be done."""
        where = environment.variables().get("SSH_AUTH_SOCK", "") if named in {"", "SSH_AUTH_SOCK"} else named
        try:
            if sys.platform == "win32":
                connection = None if named == "none" else paramiko.agent.get_agent_connection()
            elif where in {"", "none"}:
                connection = None
            else:
                connection = _connected(str(folder / Path(where.replace("%d", "~", 1)).expanduser()))
            if connection is not None:
                self._connect(connection)  # type: ignore[attr-defined]  # the class's own way, left out of its stubs
        except (SSHException, OSError) as error:
            return [f"the agent {where} does not answer: {str(error)[:200]}"]
        return []

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]  # as above


def _connected(path: str) -> socket.socket:
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        agent.connect(path)
    except OSError:
        agent.close()
        raise
    return agent


def _lines(file: Path, folder: Path, deep: int) -> Iterator[str]:
    """Lines of a configuration, with those of the files that it includes in their places."""
    if not file.is_file() or not deep:
        return
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        word, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        if word.lower() != "include":
            runs_program = word.lower() == "match" and "exec" in rest.lower().split()
            yield "Host !*" if runs_program else line
            continue
        for pattern in rest.replace('"', " ").split():
            path = folder / Path(pattern).expanduser()
            for included in sorted(path.parent.glob(path.name)):
                yield from _lines(included, folder, deep - 1)


def _listed(path: Path, name: str) -> Iterator[str]:
    """Host keys that a ``known_hosts`` lists under a name, also a hashed one; lines that do not read say nothing."""
    with readable(path):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        names, _, key = line.strip().partition(" ")
        with contextlib.suppress(ValueError):  # of base64 that is none, and of a line that ends too early
            if name in names.split(",") or (names.startswith("|1|") and _is_hash_of(name, names)):
                kind, blob, *_ = key.split()
                base64.b64decode(blob, validate=True)
                yield f"{kind} {blob}"


def _is_hash_of(name: str, hashed: str) -> bool:
    """True when ``|1|salt|digest`` of a ``known_hosts`` stands for a name; raises ValueError."""
    salt, digest = (base64.b64decode(part) for part in hashed.split("|")[2:])
    return hmac.digest(salt, name.encode(), "sha1") == digest


def _named(settings: Mapping[str, Any]) -> list[Path] | None:
    """The key files that the configuration names; None when it names none, and the usual ones are meant."""
    named = settings.get("identityfile")
    return None if named is None else [Path(name).expanduser() for name in named if name.lower() != "none"]


def _public(file: Path) -> bytes | None:
    """Public half of a key, from the file beside it, or from a file that holds nothing else."""
    for path in (file.with_name(f"{file.name}.pub"), file):
        with contextlib.suppress(OSError, ValueError, IndexError, binascii.Error):
            return base64.b64decode(path.read_text(encoding="ascii").split()[1], validate=True)
    return None


def _read(file: Path, found: list[Identity], unusable: list[str]) -> None:
    try:
        found.append(Identity(str(file), paramiko.PKey.from_path(file)))
    except (PasswordRequiredException, TypeError):  # TypeError: cryptography's word for the same
        unusable.append(f"{file} has a passphrase, and no agent holds it: ssh-add {file}")
    except (SSHException, OSError, ValueError, UnsupportedAlgorithm) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())[:200]
        unusable.append(f"{file} is no private key that can be used: {why}")
