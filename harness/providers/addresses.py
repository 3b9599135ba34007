"""Where an API key may be sent, and what can be one. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from harness.core.errors import BadInput


def require_key(key: str, service: str, remedy: str) -> None:
    """A key travels in an HTTP header: a blank or a line break in it would be shown in the client's own error."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise BadInput(f"the {service} API key holds characters that no key has", remedy=remedy)


def require_url(url: str, service: str) -> None:
    """The key is sent to this address: over TLS, or not beyond this machine."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadInput(f"the {service} server URL cannot be parsed") from error
    if parts.scheme not in {"http", "https"} or not host or parts.username or parts.password or parts.query:
        raise BadInput(f"the {service} server URL must look like https://HOST or http://127.0.0.1:PORT")
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
