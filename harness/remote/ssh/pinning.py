"""Host keys that a box may show: given in advance, or recorded at the first contact and required from then on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.core import durable
from harness.core.errors import BadInput, HostKeyChanged


@dataclass(frozen=True, slots=True)
class HostKeys:
    """Accepted host keys. ``pins`` are lines ``type base64``, read over a channel that is trusted for another reason.

    Without pins, ``first_use_file`` records the key of the first contact, once; a later contact
    must show the same key. Without both, every contact is refused.
    """

    pins: tuple[str, ...] = ()
    first_use_file: Path | None = None

    def known(self) -> tuple[str, ...]:
        """Keys that are accepted now; empty before a first contact."""
        if self.pins:
            return tuple(_line(pin) for pin in self.pins)
        if self.first_use_file is not None and self.first_use_file.exists():
            return tuple(_lines(self.first_use_file))
        return ()

    def require(self, shown: str, where: str) -> None:
        """Accept the key that ``where`` showed, or raise HostKeyChanged."""
        known = self.known()
        if not known:
            if self.first_use_file is None:
                raise HostKeyChanged(f"{where} shows a host key, and none is pinned: {shown}")
            self.first_use_file.parent.mkdir(parents=True, exist_ok=True)
            durable.create(self.first_use_file, f"{shown}\n".encode())
            known = self.known()  # of two first contacts one recorded its key; the other must have seen the same
        if shown not in known:
            raise HostKeyChanged(f"{where} shows the host key {shown}; pinned: {', '.join(known)}")


def _lines(file: Path) -> Iterable[str]:
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the host key file {file} cannot be read: {error}") from error
    found = [_line(line) for line in text.splitlines() if line.strip()]
    if not found:
        raise BadInput(f"the host key file {file} is empty", remedy="Delete it only if you trust the box anew.")
    return found


def _line(text: str) -> str:
    """``type base64`` of a public key line, without its comment."""
    words = text.split()
    if len(words) < 2:
        raise BadInput(f"not an SSH host key: {text[:80]!r} (expected: ssh-ed25519 AAAA...)")
    return f"{words[0]} {words[1]}"
