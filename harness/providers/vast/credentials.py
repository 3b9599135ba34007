"""Where the Vast.ai API key and address come from, in the order of the official client (vastai 1.9.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.errors import BadInput, MissingExtra
from harness.providers.addresses import require_key, require_url
from harness.providers.scoped_keys import KeyPlace

DEFAULT_SERVER = "https://console.vast.ai"
KEY_REMEDY = "Get a key at https://cloud.vast.ai/manage-keys/ and set VAST_API_KEY, or run: vastai set api-key KEY."
_KEY_LIMIT = 4096
_SERVICE = "Vast.ai"


@dataclass(frozen=True, slots=True)
class Credentials:
    """An address and the key that opens it; the key is not shown when this is printed.

    ``source`` says where the key was found, and where another one lies.
    """

    server_url: str
    api_key: str = field(repr=False)
    source: str = ""

    @property
    def key_check(self) -> str:
        """The official command that shows whose key it is."""
        return "vastai show user"

    def client(self) -> Any:
        """The official client, told to try once: it would re-send a create, too, on a lost reply or a 429."""
        try:
            from vastai.api.client import VastClient  # noqa: PLC0415 - 0.7 s and 600 modules: only when needed
        except ImportError as error:
            raise MissingExtra("the Vast.ai provider", "vast") from error
        return VastClient(api_key=self.api_key, server_url=self.server_url, retry=1)

    def __post_init__(self) -> None:
        require_url(self.server_url, _SERVICE)
        require_key(self.api_key, _SERVICE, KEY_REMEDY)


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
    require_url(server, _SERVICE)
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
