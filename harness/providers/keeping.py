"""One secret text, kept in the operating system's keyring, or in a file of the owner's where there is none.

A file in the harness's home says which: without it nothing is kept, and no keyring is asked.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from harness.core import durable
from harness.core.errors import BadInput

SERVICE = "gold-standard-harness"
_FILE, _KEYRING, _LEAVING = "file", "keyring", "leaving"


class KeyStore:
    """The secret of one kind of provider in one home of the harness."""

    def __init__(self, home: Path, kind: str) -> None:
        self.path = home / "keys" / f"{kind}.json"
        self._entry = f"{kind} of {home}"

    def load(self) -> str | None:
        """The text; None when none is kept. Raises BadInput when it is kept and cannot be read."""
        try:
            told = json.loads(self.path.read_text(encoding="utf-8"))
            kept, text = told["kept"], told.get("text")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadInput(
                f"{self.path} does not read: {type(error).__name__}", remedy=f"Restore it. {self._without()}"
            ) from error
        if kept == _LEAVING:
            self.forget()
            return None
        if kept == _KEYRING:
            text, problem = _from_keyring(self._entry)
            if text is None:
                raise BadInput(
                    f"the harness's API key is kept in the keyring, which does not give it: {problem}",
                    remedy=f"Unlock the keyring (log in to the desktop) and run the same command again. "
                    f"If its entry is gone: {self._without()}",
                )
        return str(text)

    def save(self, text: str) -> None:
        """Keep a text in the place of the one before; it is readable again when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _to_keyring(self._entry, text):
            self._write({"kept": _KEYRING})
        else:
            self._write({"kept": _FILE, "text": text})
            _delete(self._entry)  # what it may still hold is the text before

    def forget(self) -> None:
        """Keep nothing any more."""
        if self.path.exists():
            self._write({"kept": _LEAVING})
            _delete(self._entry)
            durable.remove(self.path)

    def told(self) -> str:
        """Where the text is, in words."""
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))["kept"]
        except (OSError, ValueError, TypeError, KeyError):
            kept = None
        if kept == _KEYRING:
            return f"in the keyring ({_backend()})"
        return f"in the file {self.path}, readable by you alone, because no keyring of this machine could take it"

    def _write(self, told: dict[str, str]) -> None:
        durable.write(self.path, json.dumps(told).encode(), mode=0o600)

    def _without(self) -> str:
        return f"Move {self.path} away, put your own key where it was, and run: harness guard lock"


def _backend() -> str:
    try:
        import keyring  # noqa: PLC0415 - an extra, and slow

        return str(keyring.get_keyring().name)
    except Exception:  # noqa: BLE001 - see _from_keyring
        return "not to be had now"


def _from_keyring(entry: str) -> tuple[str | None, str]:
    try:
        import keyring  # noqa: PLC0415 - an extra, and slow

        return keyring.get_password(SERVICE, entry), "it has no such entry"
    except Exception as error:  # noqa: BLE001 - a backend is other people's code, and raises what it likes
        return None, type(error).__name__


def _to_keyring(entry: str, text: str) -> bool:
    """True when the keyring gives back what it was given; some take everything and keep nothing."""
    try:
        import keyring  # noqa: PLC0415 - an extra, and slow

        keyring.set_password(SERVICE, entry, text)
    except Exception:  # noqa: BLE001 - see _from_keyring
        return False
    return _from_keyring(entry)[0] == text


def _delete(entry: str) -> None:
    with contextlib.suppress(Exception):
        import keyring  # noqa: PLC0415 - an extra, and slow

        keyring.delete_password(SERVICE, entry)
