"""Where the Vast.ai API key and address come from, in the order of the official client (vastai 1.9.1)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from harness.core.errors import BadInput
from harness.providers.scoped_keys import KeyPlace

DEFAULT_SERVER = "https://console.vast.ai"
KEY_REMEDY = "Get a key at https://cloud.vast.ai/manage-keys/ and set VAST_API_KEY, or run: vastai set api-key KEY."
_KEY_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Credentials:
    """An address and the key that opens it; the key is not shown when this is printed.

    ``source`` says where the key was found, and where another one lies.
    """

    server_url: str
    api_key: str = field(repr=False)
    source: str = ""

    def __post_init__(self) -> None:
        _require_url(self.server_url)
        _require_key(self.api_key)


def resolve(
    environ: Mapping[str, str],
    home: Path,
    *,
    api_key: str | None = None,
    server_url: str | None = None,
    working: Callable[[str, str | None], str | None] = lambda _server, _found: None,
) -> Credentials:
    """The given values; else VAST_API_KEY and VAST_URL of ``environ``; else the key files under ``home``.

    Key files: ``$XDG_CONFIG_HOME/vastai/vast_api_key`` (default ``~/.config``), ``~/.vast_api_key``. What ``working``
    makes of the server and the key that was found comes before that key.
    Raises BadInput when there is no key, or one that cannot be a key; the message never holds it.
    """
    server = server_of(environ, server_url)
    _require_url(server)
    asked = api_key or environ.get("VAST_API_KEY")
    files = key_files(environ, home)
    used = None if asked else next((path for path in files if path.exists()), None)
    key = asked or (_read(used) if used else None)
    kept = working(server, key)
    if kept:
        return Credentials(server, kept, "harness guard lock")
    if not key:
        raise BadInput("no Vast.ai API key was found", remedy=KEY_REMEDY)
    source = str(used) if used else "VAST_API_KEY" if not api_key else "the caller"
    others = [str(path) for path in files if path != used and _holds_another(path, key)]
    told = f"{source}; another key lies in {' and in '.join(others)}" if others else source
    return Credentials(server, key, told)


def server_of(environ: Mapping[str, str], server_url: str | None = None) -> str:
    """The address of the service."""
    return (server_url or environ.get("VAST_URL") or DEFAULT_SERVER).rstrip("/")


def key_places(environ: Mapping[str, str], home: Path) -> tuple[KeyPlace, ...]:
    """Every place where the official client looks for a key; the last is for two-factor sessions, by its command alone.

    Raises BadInput for a file that is there and cannot be read.
    """
    client, older = key_files(environ, home)
    files = (client, older, client.with_name("vast_tfa_key"))
    variable = KeyPlace("VAST_API_KEY", None, environ.get("VAST_API_KEY") or None)
    return (variable, *(KeyPlace(str(path), path, _read(path) if path.exists() else None) for path in files))


def key_files(environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Files in which the official client looks for a key, in its order."""
    config = environ.get("XDG_CONFIG_HOME", "")
    base = Path(config) if Path(config).is_absolute() else home / ".config"
    return base / "vastai" / "vast_api_key", home / ".vast_api_key"


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_KEY_LIMIT).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the API key file {path}", remedy=KEY_REMEDY) from error


def _holds_another(path: Path, key: str) -> bool:
    try:
        return path.exists() and _read(path) not in {"", key}
    except BadInput:
        return False


def _require_key(key: str) -> None:
    """A key travels in an HTTP header: a blank or a line break in it would be shown in the client's own error."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise BadInput("the Vast.ai API key holds characters that no key has", remedy=KEY_REMEDY)


def _require_url(url: str) -> None:
    """The key is sent to this address: over TLS, or not beyond this machine."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadInput("the Vast.ai server URL cannot be parsed") from error
    if parts.scheme not in {"http", "https"} or not host or parts.username or parts.password or parts.query:
        raise BadInput("the Vast.ai server URL must look like https://HOST or http://127.0.0.1:PORT")
    if not is_private(url):
        raise BadInput(f"http://{host} would send the API key unencrypted: use https")


def is_private(url: str) -> bool:
    """True where nobody on the way can read or change what is exchanged: TLS, or this machine only."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"
